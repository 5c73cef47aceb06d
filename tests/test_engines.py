"""What runs a network: every engine answers as the network itself, and says what it cannot do."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import oodgate.model
from conftest import TinyNetwork
from oodgate.bundle import FORMAT_VERSION, Bundle, Engine, Manifest, Outputs
from oodgate.engines import ENGINES
from oodgate.errors import BundleError, SetupError
from oodgate.images.preprocess import Preprocessing
from oodgate.model import Model
from oodgate.offline.exporting.building import build_model
from oodgate.offline.exporting.comparison import compare_engines
from oodgate.offline.exporting.exposure import expose
from oodgate.offline.exporting.probes import PARITY, probe_images, relative_difference

SIDE = 16
CPU = torch.device("cpu")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Mixed(nn.Module):
    """Batch norm, a residual, sizes read from the tensor, an operation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        found = F.relu(self.norm(self.conv(images)), inplace=True)
        found = F.relu(found + self.again(found))
        return self.fc(found.view(found.size(0), 8, -1).mean(2))


def mixed() -> nn.Module:
    torch.manual_seed(0)
    return expose(Mixed().eval().requires_grad_(False), 4, (SIDE, SIDE)).network


def bundle_of(engine: Engine, model: bytes, activation: tuple[int, int, int]) -> Bundle:
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tried",
        version="1",
        classes=("ant", "bee", "cat", "dog"),
        preprocessing=Preprocessing(resize=SIDE, crop=(SIDE, SIDE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        engine=engine,
        outputs=Outputs(logits=(4,), activation=activation),
    )
    return Bundle(manifest, model, {})


def tiny(engine: Engine) -> Bundle:
    torch.manual_seed(0)
    return bundle_of(engine, ENGINES[engine].save(TinyNetwork().eval(), torch.zeros(2, 3, SIDE, SIDE)), (8, 4, 4))


def assert_answers_alike(engine: Engine, network: nn.Module) -> None:
    runner = ENGINES[engine]
    loaded = runner.load(runner.save(network, probe_images(2, (SIDE, SIDE))), CPU, torch.float32)
    for count in (1, 2, 5, 16):
        images = probe_images(count, (SIDE, SIDE), seed=count)
        with torch.inference_mode():
            for found, expected in zip(loaded(images), network(images), strict=True):
                assert relative_difference(expected, found) <= PARITY


@pytest.mark.parametrize("engine", ["torchscript", "export"])
@pytest.mark.parametrize("build", [mixed, lambda: TinyNetwork().eval().requires_grad_(False)])
def test_an_engine_answers_as_the_network_for_any_number_of_images(
    engine: Engine, build: Callable[[], nn.Module]
) -> None:
    assert_answers_alike(engine, build())


@needs_compiler
@pytest.mark.timeout(1500)  # compiling takes half a minute, and many times that beside other work
def test_compiled_code_answers_as_the_network() -> None:
    assert_answers_alike("aotinductor", mixed())


@pytest.mark.parametrize("engine", ["torchscript", "export"])
def test_a_bundle_runs_on_its_engine(engine: Engine) -> None:
    torch.manual_seed(0)
    network = TinyNetwork().eval()
    pixels = torch.randint(0, 256, (5, SIDE, SIDE, 3), dtype=torch.uint8)
    answer = Model(tiny(engine), "cpu").run(pixels)
    with torch.no_grad():
        logits, activation = network((pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
    torch.testing.assert_close(answer.logits, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answer.activation, activation, rtol=1e-4, atol=1e-5)


def test_other_precisions_are_refused_where_the_engine_has_none() -> None:
    with pytest.raises(SetupError, match="computes in float32 and not in bfloat16; export it with --engine torch"):
        Model(tiny("export"), "cpu", "bfloat16")


@pytest.mark.parametrize(
    ("engine", "content"),
    [
        ("torchscript", "a TorchScript module"),
        ("export", "a torch.export program"),
        ("aotinductor", "an AOTInductor package"),
    ],
)
def test_a_file_of_another_engine_is_refused(engine: Engine, content: str) -> None:
    for data in (b"", b"PK\x03\x04" + bytes(100), tiny("torchscript" if engine == "export" else "export").model):
        with pytest.raises(BundleError, match=f"'tried' is not {content}; export the bundle again"):
            Model(bundle_of(engine, data, (8, 4, 4)), "cpu")


def test_native_code_stays_on_the_processor_that_it_was_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oodgate.model, "choose_device", lambda wanted: torch.device("cuda"))
    native = bundle_of("aotinductor", b"", (8, 4, 4))
    with pytest.raises(SetupError, match="was compiled for cpu and cannot run on cuda; use --device cpu"):
        Model(native, "cuda")
    with pytest.raises(BundleError, match="is not an AOTInductor package"):  # so it went on, on the CPU
        Model(native, "auto")


def test_engines_are_compared_and_one_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: nn.Module, example: Tensor) -> bytes:
        raise RuntimeError("no compiler")

    monkeypatch.setitem(ENGINES, "aotinductor", replace(ENGINES["aotinductor"], save=fail))
    speeds = compare_engines(mixed(), (SIDE, SIDE), ("torchscript", "export", "aotinductor"))
    assert set(speeds) == {"torchscript", "export"}
    assert all(speed.images_per_second > 0 and speed.difference <= PARITY for speed in speeds.values())


def test_shapes_are_declared_as_the_engine_answers_them() -> None:
    found = expose(Mixed().eval().requires_grad_(False), 4, (SIDE, SIDE))
    _, outputs = build_model(found, "export", (SIDE, SIDE))
    assert outputs == Outputs(logits=(4,), activation=(8, SIDE, SIDE))
