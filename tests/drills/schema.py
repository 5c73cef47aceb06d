"""A drill: schemathesis makes requests of every kind from the service's own OpenAPI document and judges the answers.

    python tests/drills/schema.py --seconds 60

Prints one line with figures; exit status 1 where an answer is a 5xx, has a status, header or content type that is
not documented, or is not of its schema.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from conftest import DEFAULT_BUNDLE, running_server

# Not whether a request that fits the document is taken: that bytes are an image is more than a document can say.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@dataclass(frozen=True)
class Findings:
    """What schemathesis did, and what it found wrong."""

    operations: int
    requests: int
    failures: list[str]
    report: str

    @property
    def held(self) -> bool:
        """Whether every operation was asked and nothing was wrong."""
        return self.operations > 0 and self.requests > self.operations and not self.failures


def judge(url: str, seconds: int, examples: int, seed: int, folder: Path) -> Findings:
    """Ask a service for all that its document says, and more; keeps its files in a folder."""
    found = folder / "report.json"
    limits = ["--max-time", str(seconds), "--max-examples", str(examples), "--seed", str(seed)]
    manner = ["--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS), "--suppress-health-check", "all"]
    reporting = ["--report", "json", "--report-json-path", str(found), "--continue-on-failure", "--no-shrink"]
    program = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"]
    done = subprocess.run([*program, *limits, *manner, *reporting], capture_output=True, text=True, cwd=folder)
    report: dict[str, Any] = json.loads(found.read_text()) if found.exists() else {}
    failures = [f"{one['title']}: {', '.join(one['operations'])}" for one in report.get("failures", ())]
    if done.returncode not in (0, 1) or report.get("operations", {}).get("errored", 1):
        failures.append(f"schemathesis ended with status {done.returncode}")
    tested = report.get("operations", {}).get("tested", 0)
    return Findings(tested, report.get("test_cases", {}).get("generated", 0), failures, done.stdout + done.stderr)


def main() -> int:
    """Run the drill against a service of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as folder, running_server(DEFAULT_BUNDLE, Path(folder) / "log") as server:
        findings = judge(server.url, options.seconds, options.examples, options.seed, Path(folder))
    print(
        f"{findings.requests} requests to {findings.operations} operations: {len(findings.failures)} kinds of failure: "
        f"{'PASS' if findings.held else 'FAIL'}"
    )
    if not findings.held:
        print(*findings.failures, findings.report, sep="\n", file=sys.stderr)
    return 0 if findings.held else 1


if __name__ == "__main__":
    sys.exit(main())
