"""The engine: normalising, verifying what the network answers, devices and number formats."""

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import TinyNetwork
from networks import DeeperNetwork
from oodgate import model as module
from oodgate.acceleration import ON_CPU, ON_CUDA, Copy, How, accelerations_for, in_portions
from oodgate.bundle import FORMAT_VERSION, Bundle, Manifest, Outputs
from oodgate.engines import load_network, save_network
from oodgate.errors import BundleError, SetupError
from oodgate.images.preprocess import Preprocessing
from oodgate.model import Model, choose_device, use_threads
from oodgate.scores.forward import Forward
from oodgate.settings import Acceleration, Precision

SIDE = 16
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Mirror(nn.Module):
    """Shows what reaches a network: the activation is its input, the logits are the top left pixel."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images[:, :, 0, 0] * 1, images * 1


class Normalised(nn.Module):
    """A network that answers otherwise while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, activation = self.network(self.drop(self.norm(images)))
        return logits, activation


class LogitsAlone(nn.Module):
    """A plain classifier."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class WideOnly(nn.Module):
    """Works on pictures of at least 32 pixels."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images[:, :, 0, 0] * 1, torch.relu(nn.functional.conv2d(images, torch.ones(3, 3, 32, 32)))


def bundle_of(model: bytes, logits: int, activation: Iterable[int]) -> Bundle:
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tried",
        version="1",
        classes=tuple(f"class {index}" for index in range(logits)),
        preprocessing=Preprocessing(resize=SIDE, crop=(SIDE, SIDE), mean=MEAN, std=STD),
        outputs=Outputs(logits=(logits,), activation=tuple(activation)),
    )
    return Bundle(manifest, model, {})


def saved(network: nn.Module, side: int = SIDE) -> bytes:
    return save_network(network.eval(), torch.zeros(2, 3, side, side))


def deeper() -> Bundle:
    torch.manual_seed(0)
    return bundle_of(saved(DeeperNetwork()), 4, (8, 4, 4))


def mirror() -> Bundle:
    return bundle_of(saved(Mirror()), 3, (3, SIDE, SIDE))


def random_pixels(images: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8))


def test_pixels_reach_the_network_normalised_and_channels_first() -> None:
    pixels = random_pixels(5)
    pixels.view(-1)[:256] = torch.arange(256, dtype=torch.uint8)
    seen = Model(mirror(), "cpu").run(pixels).activation
    expected = (pixels.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    assert seen.shape == (5, 3, SIDE, SIDE)
    torch.testing.assert_close(seen.double(), expected.permute(0, 3, 1, 2), rtol=0, atol=1e-6)


def test_the_pixels_given_are_not_changed() -> None:
    pixels = random_pixels(2)
    before = pixels.clone()
    Model(mirror(), "cpu").run(pixels)
    assert torch.equal(pixels, before)


def test_a_forward_equals_the_network_itself() -> None:
    torch.manual_seed(0)
    network, pixels = TinyNetwork().eval(), random_pixels(3)
    answer = Model(bundle_of(saved(network), 4, (8, 4, 4)), "cpu").run(pixels)
    images = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    logits, activation = network(images)
    torch.testing.assert_close(answer.logits, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer.activation, activation, rtol=1e-5, atol=1e-5)


def test_answers_carry_no_gradient_and_repeat_to_the_bit() -> None:
    model, pixels = Model(deeper(), "cpu"), random_pixels(3)
    one, other = model.run(pixels), model.run(pixels)
    assert not one.logits.requires_grad
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.activation, other.activation)


class Stretching(TinyNetwork):
    """Divides by the range of each image's own pixels, of which a flat one has none."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of a flat image: no numbers."""
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        answer: tuple[Tensor, Tensor] = super().forward((images - low) / (high - low))
        return answer


class Brightened(TinyNetwork):
    """Computes with the pixels before its convolution."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        answer: tuple[Tensor, Tensor] = super().forward(images * 1.5 + images.mean((1, 2, 3), keepdim=True))
        return answer


class Balanced(TinyNetwork):
    """Divides by how much of the picture is brighter than the mean rather than darker."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of an image that is half black and half white: no numbers."""
        balance = images.sign().mean((1, 2, 3), keepdim=True)
        answer: tuple[Tensor, Tensor] = super().forward(images * balance / balance)
        return answer


class Restless(nn.Module):
    """A network that answers otherwise when it is copied: its numbers are drawn anew in every forward."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images[:, :, 0, 0] + torch.rand(1), images * 1


@pytest.mark.parametrize("acceleration", ON_CPU)
def test_every_worker_gets_a_faster_copy_that_answers_as_the_network(acceleration: Acceleration) -> None:
    model, pixels = Model(deeper(), "cpu"), random_pixels(3)
    how = How(1, acceleration)
    assert model.accelerate(how, 2)
    expected, together = model.run(pixels), Barrier(2)

    def answer(_: int) -> Forward:
        model.adapt(how)
        together.wait(60)
        return model.run(pixels)

    with ThreadPoolExecutor(2, initializer=model.enter_worker, initargs=([how],)) as workers:
        answers = list(workers.map(answer, range(2)))
    for found in answers:
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.activation, expected.activation, rtol=1e-4, atol=1e-5)


def test_a_worker_can_run_the_network_itself_in_between() -> None:
    model, pixels = Model(deeper(), "cpu"), random_pixels(3)
    expected = model.run(pixels).logits
    assert model.accelerate(How(1, "openvino"), 1)
    model.enter_worker([How(1, "openvino")])
    model.adapt(How(1))
    assert torch.equal(model.run(pixels).logits, expected)


@pytest.mark.parametrize("how", [How(1), How(1, "openvino")], ids=str)
@pytest.mark.parametrize(("images", "portions"), [(1, [1]), (2, [2]), (3, [2, 1]), (8, [2, 2, 2, 2])])
def test_a_batch_goes_through_the_network_in_portions(
    how: How, images: int, portions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pixels = Model(deeper(), "cpu"), random_pixels(images)
    expected = model.run(pixels)
    model.settle({how}, 1)
    seen: list[int] = []

    def watched(forward: Copy, most: int) -> Copy:
        def counted(some: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(len(some))
            return forward(some)

        return in_portions(counted, most)

    monkeypatch.setattr(module, "in_portions", watched)
    model.enter_worker([how], portion=2)
    model.adapt(how)
    found = model.run(pixels)
    assert seen == portions
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.activation, expected.activation, rtol=1e-4, atol=1e-5)


def test_what_is_computed_before_the_first_convolution_is_compiled_too() -> None:
    torch.manual_seed(0)
    assert Model(bundle_of(saved(Brightened()), 4, (8, 4, 4)), "cpu").accelerate(How(1, "openvino"), 1)


def test_settled_copies_are_as_many_as_there_are_workers_and_answer_as_the_network() -> None:
    model, pixels = Model(deeper(), "cpu"), random_pixels(3)
    expected = model.run(pixels).logits
    how = How(1, "openvino")
    assert model.settle({how, How(2), How(2, "onednn")}, 1) == {how, How(2, "onednn")}
    model.enter_worker([how])
    model.adapt(how)
    torch.testing.assert_close(model.run(pixels).logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(IndexError):
        model.enter_worker([how])


@pytest.mark.parametrize("acceleration", ON_CPU)
def test_a_network_whose_copy_answers_otherwise_is_not_accelerated(acceleration: Acceleration) -> None:
    assert not Model(bundle_of(saved(Restless()), 3, (3, SIDE, SIDE)), "cpu").accelerate(How(1, acceleration), 1)


@pytest.mark.parametrize("acceleration", ["onednn", "openvino"])
def test_a_copy_that_makes_zeros_of_what_is_not_a_number_is_not_used(acceleration: Acceleration) -> None:
    model = Model(bundle_of(saved(Stretching()), 4, (8, 4, 4)), "cpu")
    assert model.run(torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)).activation.isnan().all()
    assert not model.accelerate(How(1, acceleration), 1)


@pytest.mark.parametrize("acceleration", ["onednn", "openvino"])
def test_a_network_in_which_some_image_might_bring_nan_about_is_left_to_torch(acceleration: Acceleration) -> None:
    half_dark = torch.full((1, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    half_dark[:, : SIDE // 2] = 0
    model = Model(bundle_of(saved(Balanced()), 4, (8, 4, 4)), "cpu")
    torch.manual_seed(0)
    assert model.run(half_dark).activation.isnan().all()
    assert model.run(model.noise(2)).activation.isfinite().all()
    assert not model.accelerate(How(1, acceleration), 1)


@pytest.mark.parametrize("acceleration", ON_CPU)
def test_only_float32_is_accelerated_on_the_cpu(acceleration: Acceleration) -> None:
    assert not Model(deeper(), "cpu", "bfloat16").accelerate(How(1, acceleration), 1)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 256])
def test_a_copy_is_checked_with_batches_that_it_runs_itself(most: int) -> None:
    model = Model(deeper(), "cpu")

    def wrong_up_to_most(pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, activation = model._forward(pixels)
        return (logits + 1, activation) if len(pixels) <= most else (logits, activation)

    model.accelerations = {"onednn": lambda original: lambda workers, threads, most: [wrong_up_to_most] * workers}
    assert not model.accelerate(How(1, "onednn"), 1, most)


def test_each_kind_of_device_has_accelerations_of_its_own() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert accelerations_for(cpu, torch.float32) == ON_CPU
    assert accelerations_for(cpu, torch.bfloat16) == {}
    assert accelerations_for(gpu, torch.float32) == accelerations_for(gpu, torch.bfloat16) == ON_CUDA
    assert not Model(deeper(), "cpu").accelerate(How(0, "graphs"), 1)


def test_nothing_is_accelerated_by_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not Model(deeper(), "cpu").accelerate(How(1, "openvino"), 1)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_precision_answers_in_float32_near_the_full_one(precision: str, tolerance: float) -> None:
    pixels = random_pixels(3)
    full, half = Model(mirror(), "cpu").run(pixels), Model(mirror(), "cpu", precision).run(pixels)  # type: ignore[arg-type]
    assert half.activation.dtype == half.logits.dtype == torch.float32
    torch.testing.assert_close(half.activation, full.activation, rtol=tolerance, atol=0)
    assert not torch.equal(half.activation, full.activation)


def test_a_network_saved_while_it_is_trained_answers_as_evaluated() -> None:
    network = Normalised().eval()
    model = Model(bundle_of(saved(network), 4, (8, 4, 4)), "cpu")
    alone, together = model.run(random_pixels(1)), model.run(random_pixels(6))
    torch.testing.assert_close(alone.logits, together.logits[:1], rtol=1e-5, atol=1e-6)


def test_a_saved_network_is_the_same_after_loading() -> None:
    network, images = TinyNetwork().eval(), torch.randn(7, 3, SIDE, SIDE)
    loaded = load_network(saved(network), torch.device("cpu"))
    with torch.no_grad():
        for found, expected in zip(loaded(images), network(images), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "logits", "activation", "sentence"),
    [
        ("logits", 5, (8, 4, 4), r"have shape \(4,\), its manifest declares \(5,\)"),
        ("activation", 4, (9, 4, 4), r"have shape \(8, 4, 4\), its manifest declares \(9, 4, 4\)"),
        ("activation", 4, (8, 4, 5), r"have shape \(8, 4, 4\), its manifest declares \(8, 4, 5\)"),
    ],
)
def test_shapes_other_than_those_declared_are_refused(
    name: str, logits: int, activation: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(BundleError, match=f"the {name} of bundle 'tried' {sentence}; export the bundle again"):
        Model(bundle_of(saved(TinyNetwork()), logits, activation), "cpu")


def pickled_weights() -> bytes:
    buffer = BytesIO()
    torch.save(TinyNetwork().state_dict(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a network", b"PK\x03\x04" + bytes(100), pickled_weights(), saved(TinyNetwork())[:-100]],
    ids=["empty", "text", "zip header", "pickled weights", "cut short"],
)
def test_a_file_that_is_not_torchscript_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="'tried' is not a TorchScript module; export the bundle again"):
        Model(bundle_of(content, 4, (8, 4, 4)), "cpu")


def test_a_network_that_fails_on_the_declared_size_is_refused() -> None:
    with pytest.raises(BundleError, match=r"fails on a black image of 16 x 16 pixels \(.+\); export the bundle again"):
        Model(bundle_of(saved(WideOnly(), 32), 3, (3, 1, 1)), "cpu")


def test_a_network_without_an_activation_is_refused() -> None:
    with pytest.raises(BundleError, match=r"fails on a black image of 16 x 16 pixels \(.+\)"):
        Model(bundle_of(saved(LogitsAlone()), 3, (3, 1, 1)), "cpu")


def test_cpu_is_taken_where_it_is_asked_for() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert Model(deeper(), "cpu").device.type == "cpu"


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_asked_for_and_absent_is_the_operators_error() -> None:
    with pytest.raises(SetupError, match="'cuda' was asked for and torch finds none; use --device cpu or auto"):
        Model(deeper(), "cuda")


@needs_cuda
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 5e-3), ("bfloat16", 5e-2), ("float16", 1e-2)])
def test_cuda_answers_as_the_cpu_does(precision: str, tolerance: float) -> None:
    pixels, bundle = random_pixels(33), deeper()

    def answer(device: str) -> Forward:
        model = Model(bundle, device, precision)  # type: ignore[arg-type]
        forward = model.run(pixels)
        model.synchronize()
        return forward

    cpu, cuda = answer("cpu"), answer("cuda")
    assert cuda.logits.device.type == "cuda"  # the answers stay there; the scores run on the device
    torch.testing.assert_close(cuda.logits.cpu(), cpu.logits, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(cuda.activation.cpu(), cpu.activation, rtol=tolerance, atol=tolerance)


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_graphs_answer_as_the_network_in_every_worker(precision: Precision) -> None:
    model, how = Model(deeper(), "cuda", precision), How(0, "graphs")
    assert model.accelerate(how, 2)

    def largest_difference(images: int) -> float:
        pixels = random_pixels(images)
        model.adapt(how)
        found = model.run(pixels).activation
        model.adapt(How(0))
        return float((found - model.run(pixels).activation).abs().max())

    with ThreadPoolExecutor(2, initializer=model.enter_worker, initargs=([how],)) as workers:
        assert max(workers.map(largest_difference, (1, 2, 3, 7, 16, 33))) < 0.01


def test_the_number_of_threads_is_left_alone_at_zero_and_set_otherwise() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(0)
        assert torch.get_num_threads() == before
        use_threads(3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
