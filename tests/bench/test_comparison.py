"""The comparison with other servers: its order, its medians, its requests. No server of others is started."""

import json
import sys
from collections.abc import Iterator
from email import message_from_bytes
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from conftest import ROOT
from oodgate.bench.pictures import ImageFile
from oodgate.errors import SetupError

FILE = ImageFile(b"\x89PNG\r\n\x00bytes", "image/png")
MODULES = ("catalogue", "jobs", "trial", "summary", "run")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The folder of benchmarks is no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield {name: import_module(name) for name in MODULES}
    for name in MODULES:
        del sys.modules[name]


def test_servers_take_turns_forwards_and_backwards(modules: dict[str, ModuleType]) -> None:
    order = modules["run"].order
    assert [order(["a", "b", "c"], turn) for turn in range(3)] == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]


def test_a_table_has_medians_of_the_rounds_and_all_errors(modules: dict[str, ModuleType]) -> None:
    row = modules["trial"].Row
    rounds = [(30.0, 9.0, {}), (10.0, 1.0, {"429": 1}), (20.0, None, {"429": 2, "timeout": 1})]
    rows = [row("a", 8, rate, ms, ms, errors, None, 5.0) for rate, ms, errors in rounds]
    (found,) = modules["summary"].Comparison("t", tuple(rows), {}, {}).medians()
    assert found == row("a", 8, 20.0, 5.0, 5.0, {"429": 3, "timeout": 1}, None, 5.0)
    assert modules["summary"].cells(found) == ("a", "8", "20.0", "5.0", "5.0", "3 x 429, 1 x timeout", "-", "5")


def test_results_name_what_is_missing_and_who_agrees(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    rows = tuple(modules["trial"].Row("oodgate", n, 5.0, 1.0, 2.0, {}, 1.0, 5.0) for n in (1, 8))
    agreement = modules["run"].agreement({"oodgate": (1, 2), "mosec": (1, 3)})
    comparison = modules["summary"].Comparison("thumbnails", rows, {"bentoml": "no environment"}, agreement)
    modules["summary"].save([comparison], tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "- bentoml is missing: no environment" in text
    assert "- mosec names oodgate's class for 1 of 2 files" in text
    assert len(json.loads((tmp_path / "results.json").read_text())[0]["rows"]) == 2
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_every_server_is_sent_the_bytes_of_the_file(modules: dict[str, ModuleType]) -> None:
    for peer in modules["catalogue"].PEERS.values():
        message = peer.message(FILE)
        assert message.path.startswith("/")
        assert FILE.data in message.body


def test_a_form_has_the_file_as_its_one_part(modules: dict[str, ModuleType]) -> None:
    message = modules["catalogue"].form("/predict", "image")(FILE)
    head = f"Content-Type: {message.headers['Content-Type']}\r\n\r\n".encode()
    (part,) = message_from_bytes(head + message.body).get_payload()
    assert (part.get_content_type(), part.get_param("name", header="content-disposition")) == ("image/png", "image")
    assert part.get_payload(decode=True) == FILE.data


def test_a_tensor_has_the_file_as_its_one_element(modules: dict[str, ModuleType]) -> None:
    message = modules["catalogue"].tensor("/infer", "image")(FILE)
    length = int(message.headers["Inference-Header-Content-Length"])
    (described,) = json.loads(message.body[:length])["inputs"]
    element = message.body[length:]
    assert (described["shape"], described["parameters"]["binary_data_size"]) == ([1, 1], len(element))
    assert element == len(FILE.data).to_bytes(4, "little") + FILE.data


def test_a_server_without_an_environment_says_how_to_make_one(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"make_env\.sh mosec"):
        modules["trial"].interpreter("mosec", tmp_path)


@pytest.mark.parametrize("folder", ["bin", "mosec/bin"])
def test_an_environment_is_a_server_s_own_or_shared(
    modules: dict[str, ModuleType], tmp_path: Path, folder: str
) -> None:
    python = tmp_path / folder / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert modules["trial"].interpreter("mosec", tmp_path) == python
