"""Variables with the prefix of the settings that no setting reads."""

import subprocess
import sys

import pytest

from oodgate.errors import SetupError
from oodgate.settings import Settings
from oodgate.variables import refuse_unknown


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("OODGATE_MAX_QUEU", "OODGATE_MAX_QUEUE"),
        ("OODGATE_API_KEY", "OODGATE_API_KEYS"),
        ("oodgate_max_bach", "OODGATE_MAX_BATCH"),
        ("OODGATE_ADMN_PORT", "OODGATE_ADMIN_PORT"),
        ("OODGATE_", "--help"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(name: str, nearest: str) -> None:
    with pytest.raises(SetupError, match=rf"there is no setting {name}, .*{nearest}"):
        refuse_unknown({name: "1"})


def test_every_setting_may_be_a_variable_in_either_case_and_others_do_not_matter() -> None:
    names = [f"OODGATE_{name.upper()}" for name in Settings.model_fields]
    refuse_unknown(dict.fromkeys([*names, *map(str.lower, names), "PATH", "MY_OODGATE_X"], ""))


def test_what_kubernetes_adds_for_a_service_of_that_name_is_no_mistake() -> None:
    links = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8000_TCP", "PORT_8000_TCP_ADDR")
    refuse_unknown({f"OODGATE_GATE_{link}": "10.0.0.1" for link in links})
    refuse_unknown({"OODGATE_GATE_PORT": "tcp://10.0.0.1:8000"})


def test_the_service_does_not_start_with_one() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "oodgate.cli", "serve"], capture_output=True, text=True, env={"OODGATE_PROT": "8000"}
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("oodgate: there is no setting OODGATE_PROT, did you mean OODGATE_PORT?")
