"""Bundles, images and servers that the tests share."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from oodgate.bundle import FORMAT_VERSION, Bundle, Manifest, Outputs, Scorer, load_bundle, write_bundle
from oodgate.engines import save_network
from oodgate.images.preprocess import Preprocessing
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.dataset import list_images

ROOT = Path(__file__).parent.parent
DEFAULT_BUNDLE = ROOT / "models" / "cifar10-resnet9"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real data")


@pytest.fixture(scope="session")
def data(request: pytest.FixtureRequest) -> Path:
    """The folder of real images and checkpoints; skips where there is none."""
    folder: Path = request.config.getoption("--data")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder


@pytest.fixture(scope="session")
def image_folders(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 and CIFAR-100 test images and the textures, as folders of PNG files."""
    folder = tmp_path_factory.mktemp("data")
    unpack = data.parent / "tools" / "unpack_data.py"
    sets = ("cifar10-test", "cifar100-test", "textures")
    subprocess.run([sys.executable, str(unpack), str(folder), *sets], check=True)
    return folder


class TinyNetwork(nn.Module):
    """Four classes; ReLU'd map of 8 channels and 4 x 4 before global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.fc = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        activation = torch.relu(self.conv(images))
        return self.fc(activation.mean((2, 3))), activation


def tiny_bundle(
    folder: Path, network: nn.Module | None = None, example: Tensor | None = None, side: int = 16
) -> Bundle:
    """Write an uncalibrated bundle of a network for images of `side` pixels; seeded."""
    torch.manual_seed(0)
    built = (network or TinyNetwork()).eval()
    state = built.state_dict()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tiny",
        version="1",
        classes=("ant", "bee", "cat", "dog"),
        preprocessing=Preprocessing(resize=side, crop=(side, side), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        outputs=Outputs(logits=(4,), activation=(8, side // 4, side // 4)),
    )
    tensors = {"classifier.weight": state["fc.weight"], "classifier.bias": state["fc.bias"]}
    model = save_network(built, torch.zeros(2, 3, side, side) if example is None else example)
    return write_bundle(folder, Bundle(manifest, model, tensors), report={})


def calibrated(folder: Path, images: Path, **plan: object) -> Bundle:
    """Calibrate the bundle in `folder` on the images below `images` and write it back."""
    settings = CalibrationPlan(**{"scorer": Scorer(name="nap-energy", w=0.4), "device": "cpu"} | plan)  # type: ignore[arg-type]
    result = calibrate(load_bundle(folder), list_images(images), settings, lambda count: None)
    return write_bundle(folder, result.bundle)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 seeded pictures of 16 pixels, smooth enough to look alike after decoding."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for index in range(200):
        small = Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        small.resize((16, 16), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """A calibrated bundle of the tiny network."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    tiny_bundle(folder)
    calibrated(folder, image_folder)
    return folder


def encoded(picture: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def random_picture(seed: int, width: int = 16, height: int = 16) -> Image.Image:
    """A seeded picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def without_tables(jpeg: bytes) -> bytes:
    """A JPEG that no decoder can decode, though its header says all that a header has to: it has no tables."""
    while (place := jpeg.find(b"\xff\xdb")) >= 0:
        length = int.from_bytes(jpeg[place + 2 : place + 4])
        jpeg = jpeg[:place] + jpeg[place + 2 + length :]
    return jpeg


@dataclass(frozen=True)
class Server:
    """A running `oodgate serve`."""

    url: str
    process: subprocess.Popen[str]
    log_file: Path


@contextmanager
def running_server(bundle: Path | None, log_file: Path, **settings: object) -> Iterator[Server]:
    """`oodgate serve` on a free port, in a process of its own, on a bundle or on `models=`; killed at the end."""
    settings = settings if bundle is None else {"bundle": bundle, **settings}
    variables = {f"OODGATE_{name.upper()}": str(value) for name, value in settings.items()}
    fixed = {"OODGATE_PORT": "0", "OODGATE_DEVICE": "cpu", "OODGATE_THREADS": "1", "OODGATE_MAX_BATCH": "16"}
    environment = {**os.environ, **fixed, **variables}
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "oodgate.cli", "serve"], stderr=log, env=environment, cwd=ROOT, text=True
        )
    try:
        yield Server(wait_for_url(process, log_file), process, log_file)
    finally:
        process.kill()
        process.wait()


def wait_for_url(process: subprocess.Popen[str], log_file: Path) -> str:
    """The address that the server printed when it began to listen."""
    while process.poll() is None:
        if found := re.search(r"running on (https?://[0-9.:]+)", log_file.read_text()):
            return found[1]
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"the server ended with status {process.returncode}: {log_file.read_text()}")


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path, bundle_folder: Path) -> Iterator[StartServer]:
    """Start servers on the tiny bundle, or on `bundle=` or `models=`, with settings by name; they end with the test."""
    with ExitStack() as stack:

        def start(bundle: Path | None = None, **settings: object) -> Server:
            log_file = tmp_path / f"server-{len(list(tmp_path.iterdir()))}.log"
            if bundle is None and "models" not in settings:
                bundle = bundle_folder
            return stack.enter_context(running_server(bundle, log_file, **settings))

        yield start
