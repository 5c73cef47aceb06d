"""The jobs that all servers do: a network, the pictures that it is sent, a bundle of it for oodgate."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet50

from oodgate.bench.pictures import ImageFile, photographs, thumbnails
from oodgate.bundle import FORMAT_VERSION, MODEL_FILES, Bundle, Manifest, Outputs, Scorer, load_bundle, write_bundle
from oodgate.cores import available_cores
from oodgate.engines import DTYPES, save_network, torchscript_is_wanted
from oodgate.images.preprocess import Preprocessing
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.dataset import list_images
from oodgate.settings import Device, Precision

ROOT = Path(__file__).parent.parent
SIZE = (500, 375)
FILES = 32
MAX_BATCH, WORKERS = 16, max(2, available_cores() // 2)
MAX_WAIT_MS = 5  # for servers that want a time for which a batch may wait

_CALIBRATION_PICTURES = 200
_IMAGENET = Preprocessing(resize=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Where:
    """On what the networks run, and in which number format."""

    device: Device = "cpu"
    precision: Precision = "float32"


@dataclass(frozen=True)
class Job:
    """What the servers are given: peers read the description, oodgate the bundle, both are sent the files."""

    title: str
    description: Path
    bundle: Path
    files: list[ImageFile]
    where: Where


class Backbone(nn.Module):
    """A network of convolutions and a classifier; answers logits and the map before pooling."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W)."""
        activation = self.features(images)
        return self.classifier(activation.mean((2, 3))), activation

    @property
    def last(self) -> nn.Linear:
        """The layer that answers the logits."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)][-1]


class Logits(nn.Module):
    """The same network for servers that need no more than its logits."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W)."""
        return self.backbone(images)[0]


def mobilenet() -> Backbone:
    """MobileNetV2 with random weights."""
    network = mobilenet_v2(weights=None)
    return Backbone(network.features, network.classifier)


def resnet() -> Backbone:
    """ResNet-50 with random weights."""
    network = resnet50(weights=None)
    return Backbone(nn.Sequential(*list(network.children())[:-2]), network.fc)


def photograph_job(folder: Path, where: Where) -> Job:
    """JPEG files of a photograph's size through MobileNetV2, traced and frozen."""
    return _photographs_through("MobileNetV2", mobilenet, folder, where)


def resnet_job(folder: Path, where: Where) -> Job:
    """The same through ResNet-50."""
    return _photographs_through("ResNet-50", resnet, folder, where)


def _photographs_through(title: str, network: Callable[[], Backbone], folder: Path, where: Where) -> Job:
    torch.manual_seed(0)
    backbone, example = network().eval(), torch.zeros(2, 3, 224, 224)
    own = folder / title.lower()
    bundle = _bundle_of(backbone, example, own, where)
    traced = own.with_suffix(".ts")
    kind = {"device": where.device, "dtype": DTYPES[where.precision]}
    with torch.no_grad(), torchscript_is_wanted():
        logits = Logits(backbone).to(**kind).eval()
        torch.jit.save(torch.jit.freeze(torch.jit.trace(logits, example.to(**kind))), traced)
    return _job(f"JPEG 500 x 375, {title}", folder, traced, bundle, photographs(*SIZE, FILES), where)


def thumbnail_job(folder: Path, where: Where) -> Job:
    """PNG files of 32 x 32 pixels through the network of the embedded bundle."""
    bundle = ROOT / "models" / "cifar10-resnet9"
    network = bundle / MODEL_FILES[load_bundle(bundle).manifest.engine]
    return _job("PNG 32 x 32, ResNet-9", folder, network, bundle, thumbnails(FILES), where)


JOBS = {"photograph": photograph_job, "resnet": resnet_job, "thumbnail": thumbnail_job}


def threads() -> int:
    """The share of the cores of one worker's network."""
    return max(1, available_cores() // WORKERS)


def _job(title: str, folder: Path, network: Path, bundle: Path, files: list[ImageFile], where: Where) -> Job:
    preprocessing = load_bundle(bundle).manifest.preprocessing
    description = {
        "model": str(network),
        "resize": preprocessing.resize,
        "crop": preprocessing.crop[0],
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "max_batch": MAX_BATCH,
        "max_wait_ms": MAX_WAIT_MS,
        "workers": WORKERS,
        "threads": threads(),
        "device": where.device,
        "precision": where.precision,
    }
    path = folder / f"{bundle.name}.json"
    path.write_text(json.dumps(description))
    return Job(title, path, bundle, files, where)


def _bundle_of(backbone: Backbone, example: Tensor, folder: Path, where: Where) -> Path:
    """A calibrated bundle."""
    with torch.no_grad():
        classes, activation = (tuple(answer.shape[1:]) for answer in backbone(example))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=folder.name,
        version="1",
        classes=tuple(f"class {index}" for index in range(*classes)),
        preprocessing=_IMAGENET,
        outputs=Outputs(logits=classes, activation=activation),
    )
    tensors = {"classifier.weight": backbone.last.weight.data, "classifier.bias": backbone.last.bias.data}
    written = write_bundle(folder, Bundle(manifest, save_network(backbone, example), tensors), report={})
    pictures = list_images(_pictures(folder.with_name(f"{folder.name}-pictures")))
    plan = CalibrationPlan(
        Scorer(name="nap-energy", w=0.4),
        device=where.device,
        precision=where.precision,
        check_decoding=where.device == "cuda",
    )
    write_bundle(folder, calibrate(written, pictures, plan, lambda count: None).bundle)
    return folder


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    for index, file in enumerate(photographs(*SIZE, _CALIBRATION_PICTURES)):
        (folder / f"{index}.jpg").write_bytes(file.data)
    return folder
