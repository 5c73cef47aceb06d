"""torch.export programs: written and read so that nothing in the file can run anything but tensor operators.

`torch.export.load` trusts its file: it unpickles sample inputs and constants, evaluates shape expressions and guards
as Python, and looks operators up by any dotted name below `torch`. So a file is never handed to it as it is. It is
washed first: rebuilt from those members and fields that a program of plain tensors needs, each checked.
"""

import json
import re
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import torch
from torch.export import ExportedProgram

_PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_SAMPLES = "data/sample_inputs/model.pt"
_TENSORS = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_WRITTEN_BY_THE_WRITER = re.compile(r"archive_format|archive_version|byteorder|\.data/.*|\.format_version")

_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_ARITHMETIC = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge)|torch\.sym_(max|min|float|int|not)"
)
_NAME = re.compile(r"[A-Za-z0-9_.,+> -]{0,1000}")
_SYMBOL = r"Symbol\('[su]\d{1,9}'(, (integer|positive|nonnegative)=True)*\)"
_EXPRESSION = re.compile(  # a shape as sympy writes it
    rf"({_SYMBOL}|Integer\(-?\d{{1,9}}\)|(Add|Mul|Min|Max)\(|, |\)){{1,64}}"
)
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", None)


def save_program(program: ExportedProgram) -> bytes:
    """The washed file of a program; raises ValueError where it holds what `load_program` would refuse."""
    buffer = BytesIO()
    torch.export.save(program, buffer)
    return _wash(buffer.getvalue())


def load_program(data: bytes) -> ExportedProgram:
    """The program of a file; raises ValueError where the bytes are none, or hold more than tensors and operators."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")  # torch 2.11 reads it so
            return torch.export.load(BytesIO(_wash(data)))
    except ValueError:
        raise
    except Exception as error:  # a damaged file fails in its own ways, deep inside the reader
        raise ValueError(f"it is not a torch.export program ({type(error).__name__})") from error


def _wash(data: bytes) -> bytes:
    # Takes more than a second, and a bundle of TorchScript starts without.
    from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

    buffer = BytesIO()
    with PT2ArchiveReader(BytesIO(data)) as reader, PT2ArchiveWriter(buffer) as writer:
        for name in reader.get_file_names():
            if name == _PROGRAM:
                writer.write_string(name, json.dumps(_washed_program(json.loads(reader.read_string(name)))))
            elif name in _CONFIGS:
                writer.write_string(name, json.dumps(_checked_config(json.loads(reader.read_string(name)))))
            elif name == _SAMPLES:
                writer.write_bytes(name, b"")  # a pickle, and nobody needs it
            elif _TENSORS.fullmatch(name):
                writer.write_bytes(name, reader.read_bytes(name))
            elif not _WRITTEN_BY_THE_WRITER.fullmatch(name):
                raise ValueError(f"it holds '{name[:100]}', and a program of plain tensors has no such member")
    return buffer.getvalue()


def _washed_program(record: dict[str, Any]) -> dict[str, Any]:
    """The program without notes for debuggers and guards; raises ValueError where the rest is not plain."""
    module = record["graph_module"]
    for node in module["graph"]["nodes"]:
        _check_operator(node["target"])
        node["metadata"] = {}
    module["module_call_graph"] = module["module_call_graph"][:1]  # the whole program; the others are its submodules
    module["metadata"] = {}
    signature = module["module_call_graph"][0]["signature"]
    for spec in ("in_spec", "out_spec"):
        _check_containers(json.loads(signature[spec])[1])
    record["guards_code"] = []
    specs = {signature["in_spec"], signature["out_spec"]}
    for key, text in _strings(record):
        allowed = _EXPRESSION if key == "expr_str" else _NAME
        if text not in specs and not allowed.fullmatch(text):
            raise ValueError(f"it holds {text[:100]!r} as {key}, which is no plain name or shape")
    return record


def _check_operator(target: str) -> None:
    if _ARITHMETIC.fullmatch(target):
        return
    found = _OPERATOR.fullmatch(target)
    packet = getattr(torch.ops.aten, found[1], None) if found else None
    overload = getattr(packet, found[2], None) if found else None
    if not isinstance(overload, torch._ops.OpOverload):
        raise ValueError(
            f"it calls '{target[:100]}', and only PyTorch's own tensor operators (aten) may be in a bundle"
        )
    if any(argument.name == "filename" for argument in overload._schema.arguments):
        raise ValueError(f"it calls '{target}', which opens files")


def _check_containers(spec: dict[str, Any]) -> None:
    """Inputs and outputs nest in tuples, lists and dicts with string keys; other types would be imported by name."""
    context = json.loads(spec["context"] or "null")
    keys = context if isinstance(context, list) else []
    plain = context is None or (context == keys and all(isinstance(key, str) for key in keys))
    if spec["type"] not in _CONTAINERS or not plain:
        raise ValueError(f"its inputs or outputs come in {spec['type']!r}; only tuples, lists and dicts are read")
    for child in spec["children_spec"]:
        _check_containers(child)


def _checked_config(record: dict[str, Any]) -> dict[str, Any]:
    for name, entry in record["config"].items():
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise ValueError(
                f"its tensor '{name[:100]}' is a pickle, which could run code; only plain tensors are read"
            )
    return record


def _strings(value: Any, key: str = "a key") -> Iterator[tuple[str, str]]:
    """Every string of a JSON document with the key that it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry, key)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield "a key", name
            yield from _strings(entry, name)
