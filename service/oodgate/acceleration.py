"""Faster copies of a TorchScript network: rewritten, fused by oneDNN, compiled by OpenVINO, recorded as CUDA graphs.

Which of them pays depends on the network and the processor; `tuning.py` measures it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from oodgate.cuda_graphs import GpuRecorder, Recorded
from oodgate.engines import Network, torchscript_is_wanted
from oodgate.finiteness import stays_finite
from oodgate.images.preprocess import Preprocessing
from oodgate.normalise import Normalise
from oodgate.settings import Acceleration
from oodgate.winograd import rewrite

if TYPE_CHECKING:
    import openvino

Copy = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes uint8 pixels (N, H, W, 3) and answers (logits, activation); one thread at a time may call it."""

Copies = Callable[[int, int, int], list[Copy]]
"""Makes copies for so many threads that run at the same time, each of which may use so many cores, for batches of up to
so many images: a copy may run larger ones as the network does."""


@dataclass(frozen=True)
class Original:
    """What is copied: a network on its device, and what makes of pixels what it reads."""

    network: torch.jit.ScriptModule
    preprocessing: Preprocessing
    normalise: Normalise

    @cached_property
    def stays_finite(self) -> bool:
        """Whether no image brings NaN about in it, of which some copies would make zeros."""
        return stays_finite(self.network)


def in_portions(copy: Copy, most: int) -> Copy:
    """The same, with so many images in the network at a time; 0 leaves all of them together."""
    if not most:
        return copy

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        if len(pixels) <= most:
            return copy(pixels)
        logits, activations = zip(*(copy(portion) for portion in pixels.split(most)), strict=True)
        return torch.cat(logits), torch.cat(activations)

    return run


class How(NamedTuple):
    """How a forward is run: with so many threads, where 0 leaves it to torch, by the network or by a faster copy."""

    threads: int
    acceleration: Acceleration = "none"

    @property
    def accelerated(self) -> bool:
        """Whether a copy runs it."""
        return self.acceleration != "none"


def convolve_faster(original: Original) -> Copies | None:
    """Copies with Winograd's convolution; None where it suits no convolution of the network."""
    normalise, rewritten = original.normalise, _copied(original.network)
    with torchscript_is_wanted():
        rewritten = torch.jit.freeze(rewritten)
    if not rewrite(rewritten):
        return None
    return lambda workers, threads, most: [lambda pixels: rewritten(normalise(pixels))] * workers


def fuse(original: Original) -> Copies | None:
    """Copies whose convolutions take their activation functions with them; None where they might hide NaN."""
    if not original.stays_finite:
        return None
    normalise = original.normalise

    def copy() -> Copy:
        fused = _fused(original.network)
        return lambda pixels: fused(normalise(pixels))

    return lambda workers, threads, most: [copy() for _ in range(workers)]


def compile_for_cpu(original: Original) -> Copies | None:
    """Copies compiled by OpenVINO; None where they might hide NaN, as fused ones; raises ImportError without it."""
    import openvino

    if not original.stays_finite:
        return None
    converted, core = _converted(original.network, original.preprocessing), openvino.Core()

    def copy(threads: int) -> Copy:
        wishes = {
            "INFERENCE_PRECISION_HINT": "f32",  # its own choice is bfloat16 where the processor has it
            "NUM_STREAMS": 0,  # in the thread that asks: a core would idle while work goes from thread to thread
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # it would hold on to cores that others may be given
        }
        return _asking(core.compile_model(converted, "CPU", wishes).create_infer_request())

    return lambda workers, threads, most: [copy(threads) for _ in range(workers)]


def record(original: Original) -> Copies:
    """Copies that are CUDA graphs of the network; the weights are shared."""
    normalise, network, crop = original.normalise, original.network, original.preprocessing.crop

    def forward(pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, activation = network(normalise(pixels))
        return logits, activation

    def copy(most: int) -> Copy:
        with torch.inference_mode():
            return Recorded(forward, crop, normalise.device, GpuRecorder(), most)

    return lambda workers, threads, most: [copy(most) for _ in range(workers)]


Accelerations = dict[Acceleration, Callable[[Original], Copies | None]]

ON_CPU: Accelerations = {"winograd": convolve_faster, "onednn": fuse, "openvino": compile_for_cpu}
"""In float32."""

ON_CUDA: Accelerations = {"graphs": record}
"""In every number format."""


def accelerations_for(device: torch.device, dtype: torch.dtype) -> Accelerations:
    """What may run a network faster on a device, in a number format."""
    if device.type == "cuda":
        return ON_CUDA
    return ON_CPU if dtype == torch.float32 else {}


def _fused(network: torch.jit.ScriptModule) -> Network:
    # oneDNN keeps the weights of fused operations in its own order inside of the graph, which two threads cannot share.
    with torchscript_is_wanted():
        fused: torch.jit.ScriptModule = torch.jit.optimize_for_inference(_copied(network))
        return fused


def _copied(network: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    buffer = BytesIO()
    with torchscript_is_wanted():
        torch.jit.save(network, buffer)
        buffer.seek(0)
        copied: torch.jit.ScriptModule = torch.jit.load(buffer).eval()
        return copied


def _asking(request: "openvino.InferRequest") -> Copy:
    import openvino

    def ask(pixels: Tensor) -> tuple[Tensor, Tensor]:
        request.set_input_tensor(openvino.Tensor(pixels.numpy(), shared_memory=True))
        request.infer()
        logits, activation = (torch.from_numpy(request.get_output_tensor(place).data) for place in range(2))
        return logits.clone(), activation.permute(0, 3, 1, 2).clone()  # the next request writes over them

    return ask


def _converted(network: torch.jit.ScriptModule, preprocessing: Preprocessing) -> "openvino.Model":
    """OpenVINO's form of the network and of what normalises its pixels, for any number of them."""
    # By way of the front end itself: `openvino.convert_model` tells its makers of every conversion.
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    front_end = FrontEndManager().load_by_framework("pytorch")
    with torchscript_is_wanted():
        decoder = TorchScriptPythonDecoder(network, example_input=torch.zeros(2, 3, *preprocessing.crop))
    model = front_end.convert(front_end.load(decoder))
    for parameter in model.get_parameters():  # else operators on the pixels themselves answer in no type
        parameter.set_element_type(openvino.Type.f32)
    model.reshape(openvino.PartialShape([-1, 3, *preprocessing.crop]))
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_element_type(openvino.Type.u8)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    mean, std = ([255 * value for value in values] for values in (preprocessing.mean, preprocessing.std))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(std)
    # Maxima over the positions of channels that lie side by side take torch a fifth of the time.
    steps.output(1).model().set_layout(openvino.Layout("NCHW"))
    steps.output(1).tensor().set_layout(openvino.Layout("NHWC"))
    return steps.build()
