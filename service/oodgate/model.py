"""A bundle's network on its device: uint8 pixels -> (logits, activation); number format, warm-up.

Which engine runs it is the bundle's choice (`engines.py`); nobody above this module sees a difference.
"""

import threading
from collections import deque
from collections.abc import Iterable

import structlog
import torch
from torch import Tensor

from oodgate.acceleration import Accelerations, Copies, Copy, How, Original, accelerations_for, in_portions
from oodgate.bundle import Bundle
from oodgate.cuda_graphs import MOST_RECORDED
from oodgate.engines import DTYPES, ENGINES, Network
from oodgate.errors import BundleError, SetupError, last_line
from oodgate.normalise import Normalise
from oodgate.one_stream import OneStream
from oodgate.scores.forward import Forward
from oodgate.settings import Acceleration, Device, Precision

_WARM_UP = 3  # the first runs make ready what the others find
_TOLERANCE = 1e-3  # of the largest answer

log = structlog.stdlib.get_logger("oodgate")


class Model:
    """A network on its device; `run` is one forward."""

    def __init__(self, bundle: Bundle, device: Device = "auto", precision: Precision = "float32") -> None:
        """Load, verify and warm up.

        Raises SetupError where the bundle's engine does not run on the device or in the precision, and BundleError
        where the network does not answer as the manifest declares.
        """
        self.device = device_for(bundle, device)
        self.precision = precision
        self._dtype = DTYPES[precision]
        self._preprocessing = bundle.manifest.preprocessing
        self._normalise = Normalise(self._preprocessing, self.device, self._dtype)
        self._network = self._load(bundle)
        self._original = self._what_is_copied()
        self.accelerations: Accelerations = accelerations_for(self.device, self._dtype)
        self._makers: dict[Acceleration, Copies | None] = {}
        self._copies: dict[How, deque[Copy]] = {}
        self._own = threading.local()
        self._stream = OneStream(self.device) if self.device.type == "cuda" else None
        self._verify(bundle)

    def run(self, pixels: Tensor) -> Forward:
        """Forward uint8 pixels (N, H, W, 3) of the host or the device; the answers stay on the device."""
        with torch.inference_mode():
            forward = getattr(self._own, "in_use", self._forward)
            logits, activation = self._stream.run(forward, pixels) if self._stream else forward(pixels)
            return Forward(logits.float(), activation.float())

    def synchronize(self) -> None:
        """Wait until the device has done what this thread gave it."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def accelerate(self, how: How, workers: int, most: int = MOST_RECORDED) -> bool:
        """Make a faster copy of the network for each of so many workers, and say whether it can be done.

        Batches of more images than `most` need not be faster.
        """
        if how.acceleration not in self.accelerations or self._original is None:
            return False
        try:
            copies = self._copies_by(how, self._original, workers, most)
            for copy in copies:
                self._check_copy(in_portions(copy, most))  # beyond so many it would be the network that answers
        except Exception:  # a foreign network is refused in many ways, and not every machine has every library
            log.info("the network cannot be accelerated", by=how.acceleration, exc_info=True)
            return False
        self._copies[how] = deque(copies)
        return bool(copies)

    def settle(self, hows: Iterable[How], workers: int, most: int = MOST_RECORDED) -> set[How]:
        """Make the copies that the workers keep, as `accelerate` does, and no others; returns those that can be."""
        self._copies.clear()
        made = {how for how in hows if self.accelerate(how, workers, most)}
        self._makers.clear()
        return made

    def enter_worker(self, hows: Iterable[How] = (), portion: int = 0) -> None:
        """Make the calling thread one of several that run the network, with a copy for each way that has them.

        Batches of more than `portion` images, if it is given, go through it in portions of so many.
        """
        self._own.forward = in_portions(self._forward, portion)
        self._own.copies = {how: in_portions(self._copies[how].popleft(), portion) for how in hows if how.accelerated}
        if self.device.type == "cuda":  # for its copies and scores, beside the forward of another
            torch.cuda.set_stream(torch.cuda.Stream(self.device))

    def adapt(self, how: How) -> None:
        """Run the next forwards of the calling thread, which is a worker, in one of its ways or by the network."""
        use_threads(how.threads)
        self._own.in_use = self._own.copies[how] if how.accelerated else self._own.forward

    def noise(self, images: int) -> Tensor:
        """uint8 pixels (N, H, W, 3) of one random image; on the host, where a GPU can fetch them by itself."""
        image = torch.randint(0, 256, (1, *self._preprocessing.crop, 3), dtype=torch.uint8)
        pixels = image.repeat(images, 1, 1, 1)
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def free_memory(self) -> None:
        """Give the device's memory back that torch keeps for later."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self._network(self._normalise(pixels))

    def _what_is_copied(self) -> Original | None:
        if not isinstance(self._network, torch.jit.ScriptModule):
            return None  # the form of another engine
        return Original(self._network, self._preprocessing, self._normalise)

    def _copies_by(self, how: How, original: Original, workers: int, most: int) -> list[Copy]:
        if how.acceleration not in self._makers:
            self._makers[how.acceleration] = self.accelerations[how.acceleration](original)
        make = self._makers[how.acceleration]
        return make(workers, how.threads or torch.get_num_threads(), most) if make else []

    def _check_copy(self, copy: Copy) -> None:
        """Raises ValueError where a copy does not answer as the network does."""
        noise = self.noise(2)
        black, white = torch.zeros_like(noise[:1]), torch.full_like(noise[:1], 255)  # may divide by no variance
        pixels = torch.cat([noise, black, white])
        with torch.inference_mode():
            for _ in range(_WARM_UP):
                found = copy(pixels)
            for answer, expected in zip(found, self._forward(pixels), strict=True):
                most = _TOLERANCE * float(expected.nan_to_num(0, 0, 0).abs().max())
                if not torch.allclose(answer, expected, rtol=0, atol=most, equal_nan=True):
                    raise ValueError("the copy answers differently")

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
                f"({last_line(error)}); export the bundle again"
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


def device_for(bundle: Bundle, wanted: Device) -> torch.device:
    """The device that a bundle's engine runs on; raises SetupError where it is not the one that is asked for."""
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
