import csv
import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodgate.offline import plots
from oodgate.offline.measures import Measures, mean_measures, measure
from oodgate.offline.report import ReportData, ReportSet, verdict, write_report, write_tables

COMMAND = "oodgate evaluate models/tiny --id <photos> --out report"
HOSTILE = '"><img src=x onerror=alert(1)>&.png'


class Page(HTMLParser):
    """Attributes of every element, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def a_set(name: str, mean: float, folder: Path, count: int = 40) -> ReportSet:
    noise = np.random.default_rng(len(name))
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{index:02d}.png" for index in range(count))
    for path in paths:
        Image.fromarray(noise.integers(0, 256, (100, 200, 3), dtype=np.uint8)).save(path)
    scores = noise.normal(mean, 1, count)
    return ReportSet(name, scores, np.linspace(1 / count, 1, count), ["ant", "bee"] * (count // 2), paths)


def some_data(folder: Path, *strange: str) -> ReportData:
    known = a_set("id", 3, folder / "id")
    sets = tuple(a_set(name, row, folder / str(row)) for row, name in enumerate(strange))
    measures = {
        group.name: {name: measure(known.scores * sign, group.scores * sign) for name, sign in SCORERS.items()}
        for group in sets
    }
    return ReportData(
        name="tiny",
        version="1",
        facts={"classes": "ant, bee"},
        known=known,
        strange=sets,
        threshold=1.5,
        alpha=0.05,
        scorer="nap-energy",
        w=0.4,
        measures=measures,
        mean={name: mean_measures([rows[name] for rows in measures.values()]) for name in SCORERS},
        accuracy=91.25,
        accepted={group.name: 100 * float((group.scores >= 1.5).mean()) for group in (known, *sets)},
        document={"sets": dict.fromkeys(strange, 1 / 3)},
    )


SCORERS = {"energy": -1, "nap-energy": 1}


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds that drawing takes, where a test looks at the rest of the page."""
    monkeypatch.setattr(plots, "encode_figure", lambda figure: "data:image/png;base64,AA==")


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    return some_data(tmp_path, "textures", "places")


def page_of(data: ReportData, folder: Path) -> tuple[str, Page]:
    text = write_report(data, folder, COMMAND).read_text()
    return text, Page(text)


def test_equal_data_gives_equal_bytes(data: ReportData, tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_report(data, folder, COMMAND)
        write_tables(data, folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["measures.csv", "measures.json", "measures.md", "report.html"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_the_page_needs_nothing_beside_it(data: ReportData, tmp_path: Path) -> None:
    text, page = page_of(data, tmp_path)
    assert "://" not in text
    assert page.of("script") == [{}]
    assert not page.of("link")
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.of("img"))


@pytest.mark.usefixtures("without_plots")
def test_names_of_files_sets_and_classes_are_escaped(tmp_path: Path) -> None:
    data = some_data(tmp_path, "<b>odd</b>")
    odd = data.strange[0]
    hostile = odd.paths[0].rename(odd.paths[0].with_name(HOSTILE.replace("/", "")))
    odd = replace(odd, scores=np.full(40, 9.0), predicted=["<i>ant</i>"] * 40, paths=(hostile, *odd.paths[1:]))
    data = replace(data, strange=(odd,), facts={"<u>": "<s>"}, warnings=("<em>",))
    text, page = page_of(data, tmp_path / "out")
    assert hostile.name in "".join(page.text)
    assert not {"u", "s", "em"} & {tag for tag, _ in page.tags}
    assert "<b>odd" not in text
    assert not any("onerror" in attributes for attributes in page.of("img"))


@pytest.mark.usefixtures("without_plots")
def test_a_file_name_that_is_not_unicode_is_shown_with_a_question_mark(tmp_path: Path) -> None:
    data = some_data(tmp_path, "odd")
    odd = data.strange[0]
    broken = odd.paths[0].rename(odd.paths[0].with_name("a\udcff.png"))
    data = replace(data, strange=(replace(odd, scores=np.full(40, 9.0), paths=(broken, *odd.paths[1:])),))
    assert "a?.png" in page_of(data, tmp_path / "out")[0]


@pytest.mark.usefixtures("without_plots")
def test_the_tables_of_the_page_hold_the_measures(data: ReportData, tmp_path: Path) -> None:
    _, page = page_of(data, tmp_path)
    shown = [float(cell["data-value"] or "nan") for cell in page.of("td") if "data-value" in cell]
    columns = [*data.measures.values(), data.mean]
    assert shown == [
        getattr(rows[scorer], name) for name in ("fpr95", "auroc", "aupr") for scorer in SCORERS for rows in columns
    ]


@pytest.mark.usefixtures("without_plots")
def test_the_best_of_each_column_is_bold_and_ties_share_it(data: ReportData, tmp_path: Path) -> None:
    rows = {"energy": Measures(10.0, 90.001, 80.0), "nap-energy": Measures(20.0, 90.002, 70.0)}
    data = replace(data, measures={"textures": rows}, mean=rows)
    _, page = page_of(data, tmp_path)
    cells = [cell for cell in page.of("td") if "data-value" in cell]
    assert [cell.get("class") for cell in cells] == ["best", None, "best", "best", "best", None]


@pytest.mark.usefixtures("without_plots")
def test_the_own_scorer_is_highlighted_in_every_table(data: ReportData, tmp_path: Path) -> None:
    _, page = page_of(data, tmp_path)
    assert page.of("tr").count({"class": "own"}) == 3


def test_the_csv_parses_back(data: ReportData, tmp_path: Path) -> None:
    write_tables(data, tmp_path)
    rows = list(csv.DictReader((tmp_path / "measures.csv").read_text().splitlines()))
    found = {
        (row["set"], row["scorer"]): Measures(*(float(row[key]) for key in ("fpr95", "auroc", "aupr"))) for row in rows
    }
    assert found == {(n, s): m for n, table in [*data.measures.items(), ("mean", data.mean)] for s, m in table.items()}


def test_the_json_is_the_document_given(data: ReportData, tmp_path: Path) -> None:
    write_tables(data, tmp_path)
    assert json.loads((tmp_path / "measures.json").read_bytes()) == data.document


def test_the_markdown_table_marks_best_and_own_and_keeps_its_columns(data: ReportData, tmp_path: Path) -> None:
    rows = {"energy": Measures(10.0, 90.0, 80.0), "nap-energy": Measures(20.0, 95.0, 70.0)}
    write_tables(replace(data, measures={"a|b": rows}, mean=rows), tmp_path)
    lines = (tmp_path / "measures.md").read_text().splitlines()
    assert lines[2] == r"| a\|b | energy | **10.00** | 90.00 | **80.00** |"
    assert lines[3] == r"| a\|b | nap-energy (own) | 20.00 | **95.00** | 70.00 |"
    assert len(lines) == 6


def test_the_verdict_names_up_to_three_sets(data: ReportData) -> None:
    data = replace(data, accepted={"id": 95.2, "textures": 19.0, "places": 40.0})
    assert verdict(data) == "Accepts 95.2 % of in-distribution images, rejects 81.0 % of textures and 60.0 % of places."


def test_the_verdict_on_one_set(tmp_path: Path) -> None:
    data = replace(some_data(tmp_path, "odd"), accepted={"id": 95.25, "odd": 0.0})
    assert verdict(data) == "Accepts 95.2 % of in-distribution images, rejects 100.0 % of odd."


def test_the_verdict_on_many_sets_gives_mean_worst_and_best(data: ReportData) -> None:
    strange = tuple(replace(data.strange[0], name=name) for name in "abcd")
    data = replace(data, strange=strange, accepted={"id": 95.0, "a": 10.0, "b": 20.0, "c": 30.0, "d": 80.0})
    assert verdict(data).endswith(
        "rejects 65.0 % of strange images on average over 4 sets, from 20.0 % of d to 90.0 % of a."
    )


@pytest.mark.usefixtures("without_plots")
def test_the_galleries_show_the_worst_mistakes_first(data: ReportData, tmp_path: Path) -> None:
    known = replace(data.known, scores=np.arange(40.0))
    odd = replace(data.strange[0], scores=np.arange(40.0) - 20)
    _, page = page_of(replace(data, known=known, strange=(odd,), threshold=3.0), tmp_path / "out")
    files = re.findall(r"(\S+)/(\d\d)\.png", "\n".join(page.text))
    assert files == [("0", f"{i}") for i in range(39, 27, -1)] + [("id", f"0{i}") for i in range(3)]


@pytest.mark.usefixtures("without_plots")
def test_thumbnails_are_small_png_files(data: ReportData, tmp_path: Path) -> None:
    _, page = page_of(data, tmp_path / "out")
    sources = [image["src"] or "" for image in page.of("img") if image["alt"] == ""]
    pictures = [Image.open(BytesIO(b64decode(source.removeprefix("data:image/png;base64,")))) for source in sources]
    assert {picture.size for picture in pictures} == {(96, 48)}


@pytest.mark.usefixtures("without_plots")
def test_a_gate_without_mistakes_says_so(data: ReportData, tmp_path: Path) -> None:
    sets = tuple(replace(group, scores=np.full(40, -9.0)) for group in data.strange)
    data = replace(data, known=replace(data.known, scores=np.full(40, 9.0)), strange=sets)
    _, page = page_of(data, tmp_path / "out")
    assert "".join(page.text).count("None.") == 2


@pytest.mark.usefixtures("without_plots")
def test_optional_parts_add_their_plots(data: ReportData, tmp_path: Path) -> None:
    full = replace(
        data,
        channels={name: np.random.default_rng(0).random((30, 2)) for name in ("id", "textures", "places")},
        sensitivity=(np.linspace(0, 1, 5), {"textures": np.arange(5.0), "places": np.arange(5.0)}),
        families={"fog": {"nap": 40.0, "energy": 60.0, "nap-energy": 70.0}},
        warnings=("NAP is inverted on fog",),
    )
    bare, rich = page_of(data, tmp_path)[1], page_of(full, tmp_path)[1]
    assert len(bare.of("figure")) == 3
    assert len(rich.of("figure")) == 6
    assert "NAP is inverted on fog" in rich.text


def test_one_set_and_nothing_optional(tmp_path: Path) -> None:
    data = replace(some_data(tmp_path, "odd"), accuracy=None, w=None, scorer="energy")
    text, page = page_of(data, tmp_path / "out")
    assert "accuracy of the classifier" not in text
    assert "mean" not in {cell.strip() for cell in page.text}


@pytest.mark.usefixtures("without_plots")
def test_the_command_stands_on_the_page(data: ReportData, tmp_path: Path) -> None:
    assert COMMAND in page_of(data, tmp_path)[1].text
