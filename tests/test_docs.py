import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save_file

from conftest import DEFAULT_BUNDLE, ROOT, running_server
from oodgate.errors import RequestError
from oodgate.settings import Settings

README = (ROOT / "README.md").read_text()

MY_NETWORK = """
from torch import nn

def build():
    pooled = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(pooled, nn.Linear(8, 4))
"""


def test_every_error_code_is_documented_with_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", (ROOT / "docs" / "http.md").read_text(), re.MULTILINE)
    kinds = [RequestError, *RequestError.__subclasses__()]
    assert sorted((int(status), code) for status, code in rows) == sorted((kind.status, kind.code) for kind in kinds)


def test_every_setting_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    table = text.partition("## Settings")[2].partition("## Stopping")[0]
    assert set(re.findall(r"`OODGATE_(\w+)`", table)) == {name.upper() for name in Settings.model_fields}


def test_the_tree_of_the_readme_is_current() -> None:
    tree = subprocess.run([sys.executable, str(ROOT / "docs" / "tree.py")], capture_output=True, text=True, check=True)
    assert tree.stdout in README, "paste the output of `python docs/tree.py` into README.md"


def test_the_measured_tables_are_those_of_the_records() -> None:
    measured = runpy.run_path(str(ROOT / "docs" / "measured.py"))
    for document in measured["documents"]():
        assert measured["filled"](document.read_text()) == document.read_text(), f"run docs/measured.py: {document}"


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    documents = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "models").rglob("*.md"),
    ]
    for document in documents:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_the_commands_of_the_readme_get_the_answers_that_it_shows(tmp_path: Path) -> None:
    examples = re.findall(r"```console\n\$ (curl [^\n]+)\n```\n\n```json\n(.+?)\n```", README, re.DOTALL)
    assert [json.loads(answer)["decision"] for _, answer in examples] == ["accept", "reject"]
    with running_server(DEFAULT_BUNDLE, tmp_path / "log") as server:
        for command, answer in examples:
            words = shlex.split(command.replace("localhost:8000", server.url))
            found = json.loads(subprocess.run([*words, "-s"], capture_output=True, check=True, cwd=ROOT).stdout)
            expected = json.loads(answer)
            for record in (found, expected):
                assert set(record.pop("timing_ms")) == {"decode", "queue", "forward", "total"}
                assert record.pop("id")
            assert flat(found).keys() == flat(expected).keys()
            for path, value in flat(expected).items():
                assert flat(found)[path] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value)


def test_the_offline_commands_of_the_readme_run(tmp_path: Path, image_folder: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "my_network.py").write_text(MY_NETWORK)
    network = runpy.run_path(str(tmp_path / "my_network.py"))["build"]()
    save_file(network.state_dict(), tmp_path / "W.safetensors")
    (tmp_path / "classes.json").write_text('["ant", "bee", "cat", "dog"]')
    commands = re.findall(r"^\$ oodgate (.+)$", README, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["export", "calibrate", "evaluate", "serve"]
    for command in commands[:-1]:
        words = re.sub(r"\b(CALIBRATION|TEST|STRANGE)\b", str(image_folder), command).split()
        subprocess.run([sys.executable, "-m", "oodgate.cli", *words], check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "report" / "report.html").exists()
    with running_server(tmp_path / "models" / "mine", tmp_path / "log") as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def flat(record: object, path: str = "") -> dict[str, object]:
    """Every leaf of a JSON document by its path."""
    if not isinstance(record, dict | list):
        return {path: record}
    entries = record.items() if isinstance(record, dict) else enumerate(record)
    return {key: leaf for name, value in entries for key, leaf in flat(value, f"{path}/{name}").items()}
