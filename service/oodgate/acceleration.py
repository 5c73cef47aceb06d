"""Faster copies of a TorchScript network for a CPU, in float32: fused by oneDNN, or compiled by OpenVINO.

Which of them pays depends on the network and the processor; `tuning.py` measures it.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oodgate.engines import Network, torchscript_is_wanted
from oodgate.images.preprocess import Preprocessing
from oodgate.normalise import Normalise
from oodgate.settings import Acceleration

if TYPE_CHECKING:
    import openvino

Copy = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes uint8 pixels (N, H, W, 3) and answers (logits, activation); one thread at a time may call it."""

Copies = Callable[[int, int], list[Copy]]
"""Makes copies for so many threads that run at the same time, each of which may use so many cores."""


def fuse(network: torch.jit.ScriptModule, preprocessing: Preprocessing) -> Copies:
    """Copies whose convolutions take their activation functions with them."""
    normalise = Normalise(preprocessing, torch.device("cpu"), torch.float32)

    def copy() -> Copy:
        fused = _fused(network)
        return lambda pixels: fused(normalise(pixels))

    return lambda workers, threads: [copy() for _ in range(workers)]


def compile_for_cpu(network: torch.jit.ScriptModule, preprocessing: Preprocessing) -> Copies:
    """Copies compiled by OpenVINO; raises ImportError where it is absent."""
    import openvino

    converted, core = _converted(network, preprocessing), openvino.Core()

    def copy(threads: int) -> Copy:
        wishes = {
            "INFERENCE_PRECISION_HINT": "f32",  # its own choice is bfloat16 where the processor has it
            "NUM_STREAMS": 0,  # in the thread that asks: a core would idle while work goes from thread to thread
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # it would hold on to cores that others may be given
        }
        return _asking(core.compile_model(converted, "CPU", wishes).create_infer_request())

    return lambda workers, threads: [copy(threads) for _ in range(workers)]


ACCELERATIONS: dict[Acceleration, Callable[[torch.jit.ScriptModule, Preprocessing], Copies]] = {
    "onednn": fuse,
    "openvino": compile_for_cpu,
}


def _fused(network: torch.jit.ScriptModule) -> Network:
    # oneDNN keeps the weights of fused operations in its own order inside of the graph, which two threads cannot share.
    buffer = BytesIO()
    with torchscript_is_wanted():
        torch.jit.save(network, buffer)
        buffer.seek(0)
        fused: torch.jit.ScriptModule = torch.jit.optimize_for_inference(torch.jit.load(buffer).eval())
        return fused


def _asking(request: "openvino.InferRequest") -> Copy:
    import openvino

    def ask(pixels: Tensor) -> tuple[Tensor, Tensor]:
        request.set_input_tensor(openvino.Tensor(pixels.numpy(), shared_memory=True))
        request.infer()
        logits, activation = (torch.from_numpy(request.get_output_tensor(place).data) for place in range(2))
        return logits.clone(), activation.clone()  # the next request writes over them

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
    model.reshape(openvino.PartialShape([-1, 3, *preprocessing.crop]))
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_element_type(openvino.Type.u8)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    mean, std = ([255 * value for value in values] for values in (preprocessing.mean, preprocessing.std))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(std)
    return steps.build()
