"""The commands of docs/http.md, which get the answers that it shows."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from conftest import DEFAULT_BUNDLE, ROOT
from contract import serving

PAGE = (ROOT / "docs" / "http.md").read_text()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(DEFAULT_BUNDLE, tmp_path_factory.mktemp("logs"), allow_reload=True) as connected:
        yield connected


@pytest.mark.parametrize(
    ("command", "answer"), re.findall(r"```console\n\$ (curl [^\n]+)\n```\n\n```json\n(.+?)\n```", PAGE, re.DOTALL)
)
def test_a_command_gets_the_answer_that_the_page_shows(client: httpx.Client, command: str, answer: str) -> None:
    words = shlex.split(command.replace("localhost:8000", str(client.base_url).rstrip("/")))
    found = subprocess.run([*words, "-s"], capture_output=True, check=True, cwd=ROOT).stdout
    assert json.loads(found) == json.loads(answer)


def test_the_program_of_the_page_accepts_the_cat(client: httpx.Client) -> None:
    (program,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    address = f"{client.base_url.host}:{client.base_url.port}"
    code = program.replace("localhost:8000", address) + "assert answer.as_numpy('accept').tolist() == [True]\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
