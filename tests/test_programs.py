"""Files of torch.export from strangers: nothing in them is run, and what could be is refused before torch sees it."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from conftest import TinyNetwork
from oodgate.engines import export_program
from oodgate.programs import load_program, save_program

PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
SAMPLES = "data/sample_inputs/model.pt"

Record = dict[str, Any]


@pytest.fixture(scope="module")
def plain() -> bytes:
    """A file as torch.export.save writes it."""
    buffer = io.BytesIO()
    torch.export.save(export_program(TinyNetwork().eval(), torch.zeros(2, 3, 16, 16)), buffer)
    return buffer.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with PT2ArchiveReader(io.BytesIO(data)) as reader:
        names = [name for name in reader.get_file_names() if name.startswith(("models/", "data/"))]
        return {name: reader.read_bytes(name) for name in names}


def archive(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, data in content.items():
            writer.write_bytes(name, data)
    return buffer.getvalue()


def changed(data: bytes, name: str, change: Callable[[Record], None]) -> bytes:
    content = members(data)
    record = json.loads(content[name])
    change(record)
    return archive(content | {name: json.dumps(record).encode()})


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.marker, "ran"))


def test_a_plain_file_is_read_and_answers_for_any_number_of_images(plain: bytes) -> None:
    network = load_program(plain).module(check_guards=False)
    for count in (1, 2, 7):
        logits, activation = network(torch.zeros(count, 3, 16, 16))
        assert (logits.shape, activation.shape) == ((count, 4), (count, 8, 4, 4))


def test_a_washed_file_holds_no_pickle_and_no_paths_of_its_maker(plain: bytes) -> None:
    washed = save_program(export_program(TinyNetwork().eval(), torch.zeros(2, 3, 16, 16)))
    assert members(washed)[SAMPLES] == b""
    assert b"conftest" in members(plain)[PROGRAM]
    assert b"conftest" not in members(washed)[PROGRAM]
    load_program(washed)


def test_pickled_sample_inputs_are_never_unpickled(plain: bytes, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    load_program(archive(members(plain) | {SAMPLES: pickle.dumps(Bomb(marker))}))
    buffer = io.BytesIO()
    torch.save(Bomb(marker), buffer)
    load_program(archive(members(plain) | {SAMPLES: buffer.getvalue()}))
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/aotinductor/model/code.so",
        "extra/note.txt",
        "models/other.json",
    ],
)
def test_members_that_a_plain_program_does_not_have_are_refused(plain: bytes, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"it holds '{name}'"):
        load_program(archive(members(plain) | {name: pickle.dumps(Bomb(tmp_path / "ran"))}))
    assert not (tmp_path / "ran").exists()


def test_a_pickled_weight_is_refused(plain: bytes, tmp_path: Path) -> None:
    def pickled(record: Record) -> None:
        record["config"]["fc.weight"]["use_pickle"] = True

    buffer = io.BytesIO()
    torch.save(Bomb(tmp_path / "ran"), buffer)
    content = members(changed(plain, WEIGHTS, pickled))
    content = {
        name: buffer.getvalue() if name.startswith("data/weights/weight_") else data for name, data in content.items()
    }
    with pytest.raises(ValueError, match=r"its tensor 'fc\.weight' is a pickle, which could run code"):
        load_program(archive(content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.prim.Print",
        "math.sqrt",
        "_operator.call",
    ],
)
def test_calls_of_anything_but_tensor_operators_are_refused(plain: bytes, target: str) -> None:
    def calling(record: Record) -> None:
        record["graph_module"]["graph"]["nodes"][0]["target"] = target

    with pytest.raises(ValueError, match=f"it calls '{target}'"):
        load_program(changed(plain, PROGRAM, calling))


def expressions(value: Any) -> list[Record]:
    """Every object of a JSON document that holds a shape's expression."""
    if isinstance(value, list):
        return [found for entry in value for found in expressions(entry)]
    if not isinstance(value, dict):
        return []
    own = [value] if "expr_str" in value else []
    return own + [found for entry in value.values() for found in expressions(entry)]


@pytest.mark.parametrize(
    "code",
    [
        "__import__('pathlib').Path('ran').write_text('')",
        "exec(chr(49))",
        "9**9**9",
        "Symbol('x')",
        "Pow(Integer(9), Integer(9))",
    ],
)
def test_shapes_that_would_be_evaluated_are_refused(
    plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def shaped(record: Record) -> None:
        expressions(record)[0]["expr_str"] = code

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no plain name or shape"):
        load_program(changed(plain, PROGRAM, shaped))
    assert not (tmp_path / "ran").exists()


def test_guards_are_dropped_and_never_evaluated(plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(record: Record) -> None:
        record["guards_code"] = ["__import__('pathlib').Path('ran').write_text('')"]

    monkeypatch.chdir(tmp_path)
    program = load_program(changed(plain, PROGRAM, guarded))
    program.module()(torch.zeros(3, 3, 16, 16))
    assert not (tmp_path / "ran").exists()


def test_names_that_are_code_are_refused(plain: bytes) -> None:
    def named(record: Record) -> None:
        specs = record["graph_module"]["signature"]["input_specs"]
        specs[0]["parameter"]["parameter_name"] = 'a"); import os; ("'

    with pytest.raises(ValueError, match="as parameter_name, which is no plain name or shape"):
        load_program(changed(plain, PROGRAM, named))


@pytest.mark.parametrize(("kind", "context"), [("collections.defaultdict", "null"), ("builtins.dict", '{"a": "os"}')])
def test_containers_that_would_be_imported_are_refused(plain: bytes, kind: str, context: str) -> None:
    def nested(record: Record) -> None:
        signature = record["graph_module"]["module_call_graph"][0]["signature"]
        protocol, spec = json.loads(signature["out_spec"])
        signature["out_spec"] = json.dumps([protocol, spec | {"type": kind, "context": context}])

    with pytest.raises(ValueError, match="its inputs or outputs come in"):
        load_program(changed(plain, PROGRAM, nested))


def test_the_format_of_older_torch_which_is_all_pickles_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as old:
        old.writestr("version", "8.9")
        for name in ("state_dict.pt", "constants.pt", "example_inputs.pt"):
            old.writestr(f"serialized_{name}", pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"not a torch\.export program"):
        load_program(buffer.getvalue())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cut", [0, 1, 10, 100, 1000])
def test_a_file_that_is_cut_short_is_refused(plain: bytes, cut: int) -> None:
    with pytest.raises(ValueError, match=r"not a torch\.export program"):
        load_program(plain[:cut])


def test_a_program_that_calls_other_operators_is_refused_when_it_is_saved() -> None:
    @torch.library.custom_op("strange::double", mutates_args=())
    def double(images: torch.Tensor) -> torch.Tensor:
        return images * 2

    double.register_fake(torch.empty_like)

    class Doubles(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return double(images)

    with pytest.raises(ValueError, match=r"it calls 'torch\.ops\.strange\.double"):
        save_program(torch.export.export(Doubles(), (torch.zeros(2, 3),)))
