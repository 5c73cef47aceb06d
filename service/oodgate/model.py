"""TorchScript file -> (logits, activation) for a batch of uint8 pixels; device, number format, warm-up.

This module alone knows the engine that runs the network.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import torch
from torch import Tensor, nn

from oodgate.bundle import Bundle
from oodgate.errors import BundleError, SetupError
from oodgate.scores.forward import Forward
from oodgate.settings import Device, Precision

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Model:
    """A network on its device; `run` is one forward."""

    def __init__(self, bundle: Bundle, device: Device = "auto", precision: Precision = "float32") -> None:
        """Load, verify and warm up; raises BundleError where the network does not answer as the manifest declares."""
        self.device = choose_device(device)
        self.precision = precision
        self._dtype = _DTYPES[precision]
        preprocessing = bundle.manifest.preprocessing
        self._mean = self._per_channel(preprocessing.mean) * 255
        self._factor = 1 / (self._per_channel(preprocessing.std) * 255)
        self._network = self._load(bundle)
        self._verify(bundle)

    def run(self, pixels: Tensor) -> Forward:
        """Forward uint8 pixels (N, H, W, 3) of the host; the answers stay on the device."""
        with torch.inference_mode():
            # The transpose of (N, H, W, 3) is channels_last memory, the layout that convolutions are fastest in.
            images = self._upload(pixels).permute(0, 3, 1, 2)  # (N, 3, H, W)
            images = images.float().sub_(self._mean).mul_(self._factor).to(self._dtype)
            logits, activation = self._network(images)
            return Forward(logits.float(), activation.float())

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _upload(self, pixels: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels

    def _per_channel(self, values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, device=self.device).view(3, 1, 1)

    def _load(self, bundle: Bundle) -> torch.jit.ScriptModule:
        try:
            with torchscript_is_wanted():
                network = load_network(bundle.model, self.device)
                network = network.to(self._dtype).to(memory_format=torch.channels_last)
                frozen: torch.jit.ScriptModule = torch.jit.freeze(network)
                return frozen
        except RuntimeError as error:
            raise BundleError(
                f"the network of bundle '{bundle.manifest.name}' is not a TorchScript module; export the bundle again"
            ) from error

    def _verify(self, bundle: Bundle) -> None:
        height, width = bundle.manifest.preprocessing.crop
        zeros = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        try:
            for _ in range(3):  # the profiling executor specialises a graph during its first runs
                answer = self.run(zeros)
        except Exception as error:  # a foreign network fails in its own ways
            raise BundleError(
                f"the network of bundle '{bundle.manifest.name}' fails on a black image of {height} x {width} pixels "
                f"({_first_line(error)}); export the bundle again"
            ) from error
        declared = bundle.manifest.outputs
        for name, found, expected in (
            ("logits", answer.logits.shape[1:], declared.logits),
            ("activation", answer.activation.shape[1:], declared.activation),
        ):
            if tuple(found) != expected:
                raise BundleError(
                    f"the {name} of bundle '{bundle.manifest.name}' have shape {tuple(found)}, its manifest declares "
                    f"{expected}; export the bundle again"
                )


def use_threads(count: int) -> None:
    """Let a forward on the CPU use this many threads; 0 leaves it to torch."""
    if count:
        torch.set_num_threads(count)


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


@contextmanager
def torchscript_is_wanted() -> Iterator[None]:
    """Silence the warning that TorchScript is deprecated."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        yield


def choose_device(wanted: Device) -> torch.device:
    """The device to run on; raises SetupError where CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SetupError("device 'cuda' was asked for and torch finds none; use --device cpu or auto")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
