"""A bundle's network on its device: uint8 pixels -> (logits, activation); number format, warm-up.

Which engine runs it is the bundle's choice (`engines.py`); nobody above this module sees a difference.
"""

import threading
from collections import deque
from collections.abc import Callable

import structlog
import torch
from torch import Tensor

from oodgate.bundle import Bundle
from oodgate.engines import DTYPES, ENGINES, Network
from oodgate.errors import BundleError, SetupError
from oodgate.scores.forward import Forward
from oodgate.settings import Device, Precision

_WARM_UP = 3  # the profiling executor specialises a graph during its first runs
_FUSED_TOLERANCE = 1e-3  # of the largest answer

log = structlog.stdlib.get_logger("oodgate")


class Model:
    """A network on its device; `run` is one forward."""

    def __init__(self, bundle: Bundle, device: Device = "auto", precision: Precision = "float32") -> None:
        """Load, verify and warm up.

        Raises SetupError where the bundle's engine does not run on the device or in the precision, and BundleError
        where the network does not answer as the manifest declares.
        """
        self.device = _choose_device_of(bundle, device)
        self.precision = precision
        self._dtype = DTYPES[precision]
        preprocessing = bundle.manifest.preprocessing
        self._mean = self._per_channel(preprocessing.mean) * 255
        self._factor = 1 / (self._per_channel(preprocessing.std) * 255)
        self._crop = preprocessing.crop
        self._fuse = ENGINES[bundle.manifest.engine].fuse
        self._network = self._load(bundle)
        self._fused: deque[Network] = deque()
        self._own = threading.local()
        self._verify(bundle)

    def run(self, pixels: Tensor) -> Forward:
        """Forward uint8 pixels (N, H, W, 3) of the host; the answers stay on the device."""
        with torch.inference_mode():
            # The transpose of (N, H, W, 3) is channels_last memory, the layout that convolutions are fastest in.
            images = self._upload(pixels).permute(0, 3, 1, 2)  # (N, 3, H, W)
            images = images.float().sub_(self._mean).mul_(self._factor).to(self._dtype)
            logits, activation = getattr(self._own, "network", self._network)(images)
            return Forward(logits.float(), activation.float())

    def synchronize(self) -> None:
        """Wait until the device has done what this thread gave it."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def fuse(self, workers: int) -> bool:
        """Make a fused copy of the network for each of so many workers, and say whether it can be done.

        Some networks are faster fused, some slower; `tuning.py` measures it.
        """
        if self._fuse is None or self.device.type != "cpu" or self.precision != "float32":
            return False
        try:
            self._fused = deque([self._fused_copy(self._fuse) for _ in range(workers)])
        except Exception:  # torch refuses a foreign network in its own ways
            log.info("the network cannot be fused", exc_info=True)
            return False
        return True

    def enter_worker(self, threads: int = 0, fused: bool = False) -> None:
        """Make the calling thread one of several that run the network at the same time; `fused` after `fuse`."""
        use_threads(threads)
        if fused:
            self._own.network = self._fused.popleft()
        if self.device.type == "cuda":  # on a stream of its own, so that one batch is copied while another is computed
            torch.cuda.set_stream(torch.cuda.Stream(self.device))

    def free_memory(self) -> None:
        """Give the device's memory back that torch keeps for later."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _fused_copy(self, fuse: Callable[[Network], Network]) -> Network:
        """Raises ValueError where the copy does not answer as the network does."""
        copy, images = fuse(self._network), torch.rand(2, 3, *self._crop).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            for _ in range(_WARM_UP):
                found = copy(images)
            for answer, expected in zip(found, self._network(images), strict=True):
                if not (answer - expected).abs().max() <= _FUSED_TOLERANCE * expected.abs().max():
                    raise ValueError("the fused network answers differently")
        return copy

    def _upload(self, pixels: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels

    def _per_channel(self, values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, device=self.device).view(3, 1, 1)

    def _load(self, bundle: Bundle) -> Network:
        manifest = bundle.manifest
        runner = ENGINES[manifest.engine]
        if self.precision not in runner.precisions:
            raise SetupError(
                f"bundle '{manifest.name}' runs on the engine '{manifest.engine}', which computes in "
                f"{', '.join(runner.precisions)} and not in {self.precision}; export it with --engine torchscript"
            )
        try:
            return runner.load(bundle.model, self.device, self._dtype)
        except (RuntimeError, ValueError) as error:
            raise BundleError(
                f"the network of bundle '{manifest.name}' is not {runner.content}; export the bundle again"
            ) from error

    def _verify(self, bundle: Bundle) -> None:
        height, width = bundle.manifest.preprocessing.crop
        zeros = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        try:
            for _ in range(_WARM_UP):
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
    """Let the forwards of the calling thread use this many threads of the CPU; 0 leaves it to torch."""
    if count:
        torch.set_num_threads(count)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a forward failed for want of memory, which a smaller one may not need."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # the CPU's has no class


def choose_device(wanted: Device) -> torch.device:
    """The device to run on; raises SetupError where CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SetupError("device 'cuda' was asked for and torch finds none; use --device cpu or auto")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def _choose_device_of(bundle: Bundle, wanted: Device) -> torch.device:
    devices = ENGINES[bundle.manifest.engine].devices
    chosen = choose_device(wanted)
    if chosen.type in devices:
        return chosen
    if wanted == "auto":
        return torch.device(devices[0])
    raise SetupError(
        f"bundle '{bundle.manifest.name}' was compiled for {devices[0]} and cannot run on {wanted}; use --device "
        f"{devices[0]} or export it with --engine torchscript"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
