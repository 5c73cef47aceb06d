"""The jobs that all servers do: a network, the pictures that it is sent, a bundle of it for oodgate."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from oodgate.bench.pictures import ImageFile, photographs, thumbnails
from oodgate.bench.process import cores
from oodgate.bundle import FORMAT_VERSION, MODEL_FILES, Bundle, Manifest, Outputs, Scorer, load_bundle, write_bundle
from oodgate.engines import save_network, torchscript_is_wanted
from oodgate.images.preprocess import Preprocessing
from oodgate.offline.calibrate import CalibrationPlan, calibrate
from oodgate.offline.dataset import list_images

ROOT = Path(__file__).parent.parent
SIZE = (500, 375)
FILES = 32
MAX_BATCH, WORKERS = 16, 2
MAX_WAIT_MS = 5  # for servers that want a time for which a batch may wait

_CALIBRATION_PICTURES = 200
_CLASSES = 1000
_IMAGENET = Preprocessing(resize=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Job:
    """What the servers are given: peers read the description, oodgate the bundle, both are sent the files."""

    title: str
    description: Path
    bundle: Path
    files: list[ImageFile]


class Backbone(nn.Module):
    """MobileNetV2 with random weights; answers logits and the map before pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mobilenet_v2(weights=None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W)."""
        activation = self.network.features(images)
        return self.network.classifier(activation.mean((2, 3))), activation


class Logits(nn.Module):
    """The same network for servers that need no more than its logits."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W)."""
        return self.backbone(images)[0]


def photograph_job(folder: Path) -> Job:
    """JPEG files of a photograph's size through MobileNetV2 in float32, traced and frozen."""
    torch.manual_seed(0)
    backbone, example = Backbone().eval(), torch.zeros(2, 3, 224, 224)
    bundle = _bundle_of(backbone, example, folder / "mobilenet-v2", _pictures(folder / "pictures"))
    network = folder / "mobilenet-v2.ts"
    with torch.no_grad(), torchscript_is_wanted():
        torch.jit.save(torch.jit.freeze(torch.jit.trace(Logits(backbone).eval(), example)), network)
    return _job("JPEG 500 x 375, MobileNetV2", folder, network, bundle, photographs(*SIZE, FILES))


def thumbnail_job(folder: Path) -> Job:
    """PNG files of 32 x 32 pixels through the network of the embedded bundle."""
    bundle = ROOT / "models" / "cifar10-resnet9"
    network = bundle / MODEL_FILES[load_bundle(bundle).manifest.engine]
    return _job("PNG 32 x 32, ResNet-9", folder, network, bundle, thumbnails(FILES))


JOBS = {"photograph": photograph_job, "thumbnail": thumbnail_job}


def threads() -> int:
    """The share of the cores of one worker's network."""
    return max(1, cores() // WORKERS)


def _job(title: str, folder: Path, network: Path, bundle: Path, files: list[ImageFile]) -> Job:
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
    }
    path = folder / f"{bundle.name}.json"
    path.write_text(json.dumps(description))
    return Job(title, path, bundle, files)


def _bundle_of(backbone: Backbone, example: Tensor, folder: Path, pictures: Path) -> Path:
    """A calibrated bundle."""
    state = backbone.network.classifier.state_dict()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=folder.name,
        version="1",
        classes=tuple(f"class {index}" for index in range(_CLASSES)),
        preprocessing=_IMAGENET,
        outputs=Outputs(logits=(_CLASSES,), activation=(1280, 7, 7)),
    )
    tensors = {"classifier.weight": state["1.weight"], "classifier.bias": state["1.bias"]}
    written = write_bundle(folder, Bundle(manifest, save_network(backbone, example), tensors), report={})
    plan = CalibrationPlan(Scorer(name="nap-energy", w=0.4), device="cpu")
    write_bundle(folder, calibrate(written, list_images(pictures), plan, lambda count: None).bundle)
    return folder


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    for index, file in enumerate(photographs(*SIZE, _CALIBRATION_PICTURES)):
        (folder / f"{index}.jpg").write_bytes(file.data)
    return folder
