"""A drill: damaged image files, made by the thousand, at the decoder and at a service.

    python tests/drills/fuzz.py decoder --seconds 60     # atheris on decode and preprocess, guided by their coverage
    python tests/drills/fuzz.py service --files 10000    # the same damage for the same seed, posted over HTTP

Prints one line with figures; exit status 1 where something crashed, hung, grew or answered what is not documented.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "images"))

import httpx
from mutations import corpus, sound_files

from conftest import DEFAULT_BUNDLE, running_server
from contract import connect, predict

MOST_S = 1.0
MOST_GROWTH_MIB = 300
MOST_MIB = 2048
DOCUMENTED = {200, 400, 413, 415, 422, 429}
CLIENTS = 2
_EXAMPLES = 10


@dataclass
class Answers:
    """What a service answered to damaged files."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def take(self, name: str, status: int, seconds: float) -> None:
        """Count one answer; a status that is not documented and a late answer are faults."""
        self.statuses[status] += 1
        self.slowest_s = max(self.slowest_s, seconds)
        if status not in DOCUMENTED or seconds > MOST_S:
            self.faults.append(f"{name}: status {status} after {seconds:.2f} s")


def fuzz_service(files: int, seed: int) -> bool:
    """Post damaged files to a service of its own; says whether it held."""
    with TemporaryDirectory() as folder, running_server(DEFAULT_BUNDLE, log := Path(folder) / "log") as server:
        with connect(server.url) as client:
            post_all(client, [(name, data) for name, data in sound_files().items()] * 20)
            before, start = memory_mib(server.process.pid, "VmRSS"), perf_counter()
            answers = post_all(client, corpus(files, seed))
            seconds = perf_counter() - start
            alive = client.get("/healthz").status_code == 200 and server.process.poll() is None
        after, peak = (memory_mib(server.process.pid, name) for name in ("VmRSS", "VmHWM"))
        strange = [
            line for line in log.read_text().splitlines() if not line.startswith("{") and "running on" not in line
        ]
    held = alive and not answers.faults and not strange and after - before < MOST_GROWTH_MIB and peak < MOST_MIB
    print(
        f"{answers.statuses.total()} damaged files in {seconds:.0f} s: {dict(sorted(answers.statuses.items()))}, "
        f"slowest {1000 * answers.slowest_s:.0f} ms, resident {before:.0f} -> {after:.0f} MiB, peak {peak:.0f} MiB, "
        f"{len(strange)} lines beside the log: {'PASS' if held else 'FAIL'}"
    )
    print(*answers.faults[:_EXAMPLES], *strange[:_EXAMPLES], sep="\n", end="", file=sys.stderr)
    return held


def post_all(client: httpx.Client, files: Iterable[tuple[str, bytes]]) -> Answers:
    """The answers to all files, asked for by a few clients at once."""
    answers = Answers()

    def post(file: tuple[str, bytes]) -> None:
        start = perf_counter()
        try:
            status = predict(client, file[1]).status_code
        except httpx.HTTPError as error:
            answers.faults.append(f"{file[0]}: {error!r}")
        else:
            answers.take(file[0], status, perf_counter() - start)

    with ThreadPoolExecutor(CLIENTS) as threads:
        for _ in threads.map(post, files):
            pass
    return answers


def memory_mib(process: int, name: str) -> float:
    """A line of a process's memory figures."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def fuzz_decoder(seconds: int, seed: int) -> bool:
    """Let libFuzzer damage files until the time is over; says whether nothing crashed, hung or grew."""
    with TemporaryDirectory() as folder:
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, data in enumerate(sound_files().values()):
            (seeds / f"{number}").write_bytes(data)
        limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={MOST_MIB}", "-timeout=1", "-max_len=65536"]
        report = ["-print_final_stats=1", f"-seed={seed}", f"-artifact_prefix={folder}/"]
        command = [sys.executable, str(Path(__file__).with_name("fuzz_target.py")), *limits, *report, str(seeds)]
        done = subprocess.run(command, capture_output=True, text=True)
    figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    held = done.returncode == 0 and int(figures.get("number_of_executed_units", 0)) > 0
    print(
        f"{figures.get('number_of_executed_units', 'no')} damaged files in {seconds} s, "
        f"slowest {figures.get('slowest_unit_time_sec', '?')} s (whole seconds), "
        f"peak {figures.get('peak_rss_mb', '?')} MiB: {'PASS' if held else 'FAIL'}"
    )
    if not held:
        print(done.stderr[-3000:], file=sys.stderr)
    return held


def main() -> int:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("at", choices=("decoder", "service"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.at == "decoder":
        held = fuzz_decoder(options.seconds, options.seed)
    else:
        held = fuzz_service(options.files, options.seed)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
