"""What can run a network: TorchScript, torch.export, AOTInductor. Each writes a network to bytes and reads it back.

A network takes float images (N, 3, H, W) and answers (logits, activation), for any N.
A torch.export file is data. A TorchScript file is a program without Python, whose operators can open files, and an
AOTInductor file is native code: both are as trustworthy as whoever made them.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.passes import move_to_device_pass
from torch.jit._trace import TracerWarning

from oodgate.bundle import Engine
from oodgate.programs import load_program, save_program
from oodgate.settings import Precision

Network = Callable[[Tensor], tuple[Tensor, Tensor]]

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Runner:
    """One engine; `load` raises RuntimeError or ValueError where the bytes are not `content`."""

    content: str  # what its file holds, in words
    save: Callable[[nn.Module, Tensor], bytes]  # network in evaluation mode, example images of two or more
    load: Callable[[bytes, torch.device, torch.dtype], Network]
    precisions: tuple[Precision, ...] = ("float32",)
    devices: tuple[str, ...] = ("cpu", "cuda")


def save_network(network: nn.Module, example: Tensor) -> bytes:
    """TorchScript file of a network in evaluation mode, traced with float images (N, 3, H, W)."""
    buffer = BytesIO()
    with torch.no_grad(), torchscript_is_wanted():
        torch.jit.save(torch.jit.trace(network, example, check_trace=False), buffer)
    return buffer.getvalue()


def load_network(data: bytes, device: torch.device) -> torch.jit.ScriptModule:
    """The network of a TorchScript file, in evaluation mode; raises RuntimeError where the bytes are something else."""
    with torchscript_is_wanted():
        network: torch.jit.ScriptModule = torch.jit.load(BytesIO(data), map_location=device).eval()
        return network


def _load_torchscript(data: bytes, device: torch.device, dtype: torch.dtype) -> Network:
    with torchscript_is_wanted():
        # It would compile kernels of its own for every new size of batch, which takes seconds on a GPU.
        torch.jit.set_fusion_strategy([("STATIC", 0)])
        network = load_network(data, device).to(dtype).to(memory_format=torch.channels_last)
        frozen: torch.jit.ScriptModule = torch.jit.freeze(network)
        return frozen


def export_program(network: nn.Module, example: Tensor) -> ExportedProgram:
    """torch.export's program of a network in evaluation mode, for any number of images."""
    with torch.no_grad(), _torch_may_warn_itself():
        return torch.export.export(network, (example,), dynamic_shapes=(({0: Dim("images")}),), strict=False)


def _save_export(network: nn.Module, example: Tensor) -> bytes:
    return save_program(export_program(network, example))


def _load_export(data: bytes, device: torch.device, dtype: torch.dtype) -> Network:
    with _torch_may_warn_itself():
        program = move_to_device_pass(load_program(data), device)
        module: nn.Module = program.module(check_guards=False)
    return module.to(memory_format=torch.channels_last)


def _save_aotinductor(network: nn.Module, example: Tensor) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        program = export_program(network, example)
        with torch.no_grad(), _torch_may_warn_itself():
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs={"freezing": True}
            )
        return path.read_bytes()


def _load_aotinductor(data: bytes, device: torch.device, dtype: torch.dtype) -> Network:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        path.write_bytes(data)
        compiled: Network = torch._inductor.aoti_load_package(str(path))
        return compiled


@contextmanager
def torchscript_is_wanted() -> Iterator[None]:
    """Silence the warnings that TorchScript is deprecated and that a trace keeps what Python decided."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)  # parity is checked for several sizes of batch
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        yield


@contextmanager
def _torch_may_warn_itself() -> Iterator[None]:
    """Silence what torch.export 2.11 warns itself of: the use that it makes of its own types."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`?isinstance\(treespec, LeafSpec\)")
        yield


ENGINES: dict[Engine, Runner] = {
    "torchscript": Runner("a TorchScript module", save_network, _load_torchscript, tuple(DTYPES)),
    "export": Runner("a torch.export program", _save_export, _load_export),
    "aotinductor": Runner("an AOTInductor package", _save_aotinductor, _load_aotinductor, devices=("cpu",)),
}
