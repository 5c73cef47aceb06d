"""`oodgate bench` as operators run it. No test asserts a speed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import encoded, random_picture, tiny_bundle
from oodgate import gate
from oodgate.bench import growth, scoring
from oodgate.bench.command import parse_clients
from oodgate.bench.pictures import ImageFile
from oodgate.bench.scoring import ClassTable
from oodgate.bench.served import serving
from oodgate.bench.service import Plan, measure_service
from oodgate.bundle import load_bundle
from oodgate.cli import app
from oodgate.errors import SetupError
from oodgate.gate import Gate
from oodgate.scores.registry import SCORERS
from oodgate.settings import Settings
from oodgate.tuning import SIZES

RUNNER = CliRunner()
STAGES = {"decode", "queue", "forward", "score"}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEVICE": "cpu", "THREADS": "1"}.items():
        monkeypatch.setenv(f"OODGATE_{name}", value)


def bench(*words: object) -> str:
    """Standard output of the command, which must succeed."""
    result = RUNNER.invoke(app, ["bench", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def check_row(row: dict[str, Any]) -> None:
    """What holds for every load of a service that refuses nothing."""
    assert row["errors"] == {}
    assert row["requests"] > 0
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert row["inside"]["batch"] >= 1
    assert set(row["inside"]["stages_ms"]) == STAGES
    assert all(ms >= 0 for ms in row["inside"]["stages_ms"].values())


def test_bench_measures_the_service_and_the_limit_for_machines(bundle_folder: Path) -> None:
    asked = ("--clients", "1,4", "--duration", "0.4", "--rate", "20", "--rounds", "2", "--json")
    record = json.loads(bench(bundle_folder, *asked))
    assert (record["bundle"], record["files"]) == ("tiny", 32)
    assert len(record["rounds"]) == 2
    for found in record["rounds"]:
        assert [(row["clients"], row["rate"]) for row in found["rows"]] == [(1, None), (4, None), (None, 20.0)]
        for row in found["rows"]:
            check_row(row)
        assert found["reached"] == max(row["requests_per_s"] for row in found["rows"])
        limit = found["limit"]
        assert limit["images_per_s"] == pytest.approx(1 / (1 / limit["forward_per_s"] + 1 / limit["decode_per_s"]))
        assert found["ratio"] == pytest.approx(found["reached"] / limit["images_per_s"])
    assert record["median"] == min(record["rounds"], key=lambda found: found["ratio"])


def test_bench_shows_people_tables_of_their_own_files(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(random_picture(1)))
    shown = bench(bundle_folder, "--clients", "2", "--duration", "0.2", "--rounds", "1", "--files", tmp_path)
    for words in ("tiny", "1 files", "requests/s", "p99 ms", "decode", "of the limit"):
        assert words in shown


def test_refusals_are_counted_by_their_status(bundle_folder: Path) -> None:
    with serving(Settings(bundle=bundle_folder), [ImageFile(b"no image", "image/png")]) as service:
        row = service.closed(2, 0.2)
    assert row.errors == {"400": row.requests}
    assert (row.requests_per_s, row.p50_ms, row.inside.batch) == (0, None, None)


def test_overhead_is_that_of_a_server_that_neither_decodes_nor_infers(bundle_folder: Path) -> None:
    closed, opened = json.loads(bench(bundle_folder, "--overhead", "--duration", "0.5", "--json"))["rows"]
    assert (closed["clients"], closed["errors"]) == (64, {})
    assert (opened["clients"], opened["errors"]) == (None, {})
    assert opened["rate"] == pytest.approx(0.7 * closed["requests_per_s"])


def test_bench_grows_by_clients_sizes_batches_and_fronts(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, values in {"CLIENTS": (1, 2), "SIZES": ((64, 64),), "BATCHES": (4,), "FRONTS": (0, 1)}.items():
        monkeypatch.setattr(growth, name, values)
    bench(bundle_folder, "--growth", "--duration", "0.2", "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "growth.json").read_text())
    values = {name: [point["value"] for point in points] for name, points in record.items()}
    assert values == {"clients": [1, 2], "megapixels": [0.004096], "max_batch": [4], "fronts": [0, 1]}
    assert (tmp_path / "out" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_growth_leaves_fronts_out_where_there_can_be_none(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    for name, values in {"CLIENTS": (), "SIZES": (), "BATCHES": (), "FRONTS": (0, 1)}.items():
        monkeypatch.setattr(growth, name, values)
    found = growth.measure_growth(Settings(bundle=bundle_folder), None, 0.1, lambda count: None)
    assert [point.value for point in found.fronts] == [0]


def test_the_gate_alone_is_compared_with_the_bare_forward(bundle_folder: Path) -> None:
    record = json.loads(bench(bundle_folder, "--gate", "--duration", "0.1", "--rounds", "2", "--json"))
    assert (record["device"], record["precision"]) == ("cpu", "float32")
    rates = [record[part]["images_per_s"] for part in ("gate", "forward")]
    assert [len(found) for found in rates] == [2, 2]
    assert record["ratio"] == pytest.approx(sum(gate / forward for gate, forward in zip(*rates, strict=True)) / 2)
    assert record["gate"]["batch"] in SIZES
    assert "the gate reaches" in bench(bundle_folder, "--gate", "--duration", "0.1", "--rounds", "1")


def test_a_bundle_that_cannot_be_served_says_why_where_its_gate_is_measured(tmp_path: Path) -> None:
    tiny_bundle(tmp_path)
    with pytest.raises(SetupError, match="'tiny' has no threshold yet; run `oodgate calibrate`"):
        bench(tmp_path, "--gate")


def test_a_bundle_that_cannot_be_served_says_why_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle(tmp_path)
    monkeypatch.setattr("oodgate.bench.service.parts_of", None)
    with pytest.raises(SetupError, match="'tiny' has no threshold yet; run `oodgate calibrate`"):
        bench(tmp_path)


def test_files_are_written_by_growth_alone(bundle_folder: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["bench", str(bundle_folder), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "only --growth writes files" in result.stderr


def test_bench_costs_every_score(bundle_folder: Path) -> None:
    record = json.loads(bench(bundle_folder, "--scores", "--rounds", "1", "--images", "2", "--json"))
    assert [row["scorer"] for row in record["scores"]] == list(SCORERS)


def test_scoring_is_compared_with_a_service_that_only_classifies(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "ROUNDS", 2)
    record = json.loads(bench(bundle_folder, "--scoring", "--duration", "0.3", "--json"))
    rates = [[row["requests_per_s"] for row in record[name]] for name in ("scoring", "classifying")]
    assert [len(found) for found in rates] == [2, 2]
    assert record["ratio"] == pytest.approx(sum(one / other for one, other in zip(*rates, strict=True)) / 2)
    assert not any(row["errors"] for name in ("scoring", "classifying") for row in record[name])


@pytest.mark.parametrize("kind", ["--scoring", "--overhead"])
def test_a_service_that_answers_nothing_is_compared_with_nothing(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("OODGATE_DEADLINE_MS", "0.001")
    with pytest.raises(SetupError, match=r"gave no good answer \(by status: .+\); change the settings"):
        bench(bundle_folder, kind, "--duration", "0.2")


def test_a_server_that_takes_another_format_has_its_overhead_measured(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODGATE_IMAGE_FORMATS", "webp")
    for row in json.loads(bench(bundle_folder, "--overhead", "--duration", "0.3", "--json"))["rows"]:
        assert row["errors"] == {}


def test_generated_images_that_the_service_does_not_take_are_refused_before_they_are_sent(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODGATE_IMAGE_FORMATS", "jpeg")
    with pytest.raises(SetupError, match="takes no generated images, image/png; name some with --files"):
        bench(bundle_folder)


def test_a_gate_that_only_classifies_finds_the_same_classes(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, pixels = load_bundle(bundle_folder), [np.asarray(random_picture(seed)) for seed in range(3)]
    scoring_gate = Gate(bundle, "cpu")
    monkeypatch.setattr(gate, "ScoreTable", ClassTable)
    classifying = Gate(bundle, "cpu")
    for verdict, other in zip(scoring_gate.judge(pixels), classifying.judge(pixels), strict=True):
        assert np.array_equal(verdict.probabilities, other.probabilities)
        assert (other.score, set(other.terms.values())) == (0, {0.0})


def test_one_thing_is_measured_at_a_time(bundle_folder: Path) -> None:
    result = RUNNER.invoke(app, ["bench", str(bundle_folder), "--growth", "--overhead"])
    assert result.exit_code == 2
    assert "one thing at a time" in result.stderr


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "many", "5000", "1.5"])
def test_numbers_of_clients_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(SetupError, match="--clients 1,8,32,64"):
        parse_clients(text)


def test_numbers_of_clients_are_read_in_order() -> None:
    assert parse_clients("8, 1,64") == (8, 1, 64)


def test_every_step_that_is_announced_is_taken(bundle_folder: Path) -> None:
    plan = Plan(Settings(bundle=bundle_folder, device="cpu"), clients=(1,), duration_s=0.1, rate=20, rounds=1)
    steps: list[int] = []
    measure_service(plan, steps.append)
    assert sum(steps) == plan.steps
