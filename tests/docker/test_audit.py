"""The audit of what the image installs, against advisories of a server of this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from conftest import ROOT

ADVISORY = {
    "id": "GHSA-0000",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "torch", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
        }
    ],
}


@contextmanager
def advisories(of_torch: list[object]) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """A server that knows advisories of torch alone; yields its address and what it is asked about."""
    asked = set()

    class Advisories(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.add((name, query["version"]))
            answer = json.dumps({"vulns": of_torch} if of_torch and name == "torch" else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/query", asked
        server.shutdown()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [ROOT / "docker" / "audit.sh", "--vulnerability-service", "osv", "--osv-url", url]
    environment = {**os.environ, "PATH": path, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_every_locked_version_and_torch_are_looked_up() -> None:
    with advisories([]) as (url, asked):
        ended = audit(url)
    files = [*(ROOT / "docker").glob("*requirements.txt")]
    lines = [line.split()[0] for file in files for line in file.read_text().splitlines() if "==" in line]
    locked = {tuple(line.split(";")[0].split("==")) for line in lines if line[0].isalpha()}
    assert {name for name, _ in asked - locked} == {"torch", "torchvision"}
    assert locked <= asked
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"no known advisory for the {len(asked)} packages of the image\n"


def test_an_advisory_fails_the_audit_and_is_shown() -> None:
    with advisories([ADVISORY]) as (url, _):
        ended = audit(url)
    assert ended.returncode == 1
    assert "GHSA-0000" in ended.stdout


def test_advisories_that_cannot_be_read_are_told_and_are_not_taken_for_none() -> None:
    with advisories([]) as (url, _):
        pass
    ended = audit(url)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("not audited, the advisories cannot be read from here: ")
