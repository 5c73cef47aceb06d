import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from oodgate.settings import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
LOCK = (ROOT / "docker" / "requirements.txt").read_text()
GPU_LOCK = (ROOT / "docker" / "gpu-requirements.txt").read_text()
GATES = ("gate", "gate-cuda")


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.keys() >= {"mem_limit", "cpus", "pids_limit", "restart"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_port_is_open_to_other_machines_unless_it_is_asked_for(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.match(r"127\.0\.0\.1:|\$\{\w+:-127\.0\.0\.1:", port), port


@pytest.mark.parametrize("name", GATES)
def test_a_gate_has_the_time_to_drain_before_it_is_killed(name: str) -> None:
    settings = Settings()
    drain = (settings.drain_delay_ms + settings.drain_timeout_ms) / 1000
    assert seconds(SERVICES[name]["stop_grace_period"]) > drain


@pytest.mark.parametrize("name", GATES)
def test_the_variables_of_a_gate_are_settings(name: str) -> None:
    variables = {key.removeprefix("OODGATE_").lower() for key in SERVICES[name]["environment"]}
    assert variables <= Settings.model_fields.keys()


def test_the_gpu_is_reserved_behind_a_profile() -> None:
    [device] = SERVICES["gate-cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert SERVICES["gate-cuda"]["profiles"] == ["cuda"]
    assert device["driver"] == "nvidia"


def test_grafana_has_no_password_of_its_own_and_shows_nothing_to_strangers() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_every_dependency_but_torch_is_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[><=;\[ ]", dependency)[0] for dependency in project["dependencies"]}
    locked = dict(re.findall(r"^([\w.-]+)==\S+(.*?--hash=sha256)?", LOCK, re.MULTILINE | re.DOTALL))
    assert names - locked.keys() == {"torch"}, "run docker/lock.sh"
    assert all(locked.values())


def test_what_reads_the_gpu_is_locked_with_hashes_and_in_the_cuda_image_alone() -> None:
    [wanted] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]
    locked = re.findall(r"^([\w.-]+)==\S+ \\\n +--hash=sha256", GPU_LOCK, re.MULTILINE)
    assert locked == [re.split(r"[><=]", wanted)[0]], "run docker/lock.sh"
    stages = [stage for stage in re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.M) if "gpu-requirements" in stage]
    assert [stage.partition("\n")[0] for stage in stages] == ["common AS cuda"]


def test_the_lock_files_name_no_registry() -> None:
    for file in (ROOT / "docker").glob("*requirements.txt"):
        assert "://" not in file.read_text()


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    checked = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_code_comes_last_into_both_images_and_runs_without_rights() -> None:
    for stage in re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE):
        if stage.startswith(("common AS cpu", "common AS cuda")):
            steps = re.findall(r"^(RUN|COPY|USER)\b.*?([^ /]+)/? /?\S*$", stage, re.MULTILINE)
            assert [kind for kind, _ in steps][-3:] == ["COPY", "COPY", "USER"]
            assert "COPY --from=package /package /\nUSER 10001:10001\n" in stage
