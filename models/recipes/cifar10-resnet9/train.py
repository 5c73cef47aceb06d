"""Train the network of the embedded bundle: ResNet-9 on CIFAR-10, 5,000 training images held out.

    python train.py --data FOLDER --out FOLDER

DATA holds `train/<class>/*.png` and `test/<class>/*.png`. OUT receives `weights.safetensors`, `classes.json`,
`training.json` (settings, loss per epoch, accuracy, time) and `held-out/<class>/*.png`, the images that training
never saw. Images grow from 20 to 32 pixels during training, which halves the time to a given accuracy.
"""

import argparse
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from oodgate.offline.backbones.resnet9 import ResNet9

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result."""

    epochs: int = 30
    batch: int = 256
    peak_learning_rate: float = 0.2
    warmup: float = 0.2  # share of the steps before the peak
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_padding: int = 4
    cutout: int = 8  # side of the erased square, pixels
    sizes: tuple[tuple[float, int], ...] = ((1 / 3, 20), (0.6, 24), (1.0, 32))  # (until this share of epochs, pixels)
    held_out: int = 5000
    seed: int = 0


def list_folder(folder: Path) -> tuple[list[Path], Tensor, list[str]]:
    """Image paths, class indices and class names of `folder/<class>/*.png`."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    paths = [path for name in classes for path in sorted((folder / name).glob("*.png"))]
    return paths, torch.tensor([classes.index(path.parent.name) for path in paths]), classes


def read_pixels(paths: list[Path]) -> Tensor:
    """uint8 tensor (N, 3, 32, 32)."""
    return torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])).permute(
        0, 3, 1, 2
    )


def normalise(pixels: Tensor) -> Tensor:
    mean = torch.tensor(MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(3, 1, 1)
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, recipe: Recipe, size: int, generator: torch.Generator) -> Tensor:
    """Random crop, flip and cutout of normalised images (N, 3, 32, 32); then resize to `size`."""
    count, side = len(images), images.shape[-1]
    padded = F.pad(images, (recipe.crop_padding,) * 4, mode="reflect")
    offsets = torch.randint(0, 2 * recipe.crop_padding + 1, (2, count, 1), generator=generator)
    steps = torch.arange(side)
    rows, columns = offsets[0] + steps, offsets[1] + steps
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    pick = torch.arange(count)[:, None, None]
    images = padded.permute(0, 2, 3, 1)[pick, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    corner = torch.randint(0, side - recipe.cutout + 1, (2, count, 1), generator=generator)
    hit = (steps >= corner) & (steps < corner + recipe.cutout)
    images = images.masked_fill((hit[0][:, :, None] & hit[1][:, None, :])[:, None].to(images.device), 0.0)
    if size != side:
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return images.contiguous(memory_format=torch.channels_last)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear rise to the peak, then half a cosine down to zero."""
    if progress < recipe.warmup:
        return recipe.peak_learning_rate * progress / recipe.warmup
    return recipe.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))


def accuracy(model: ResNet9, pixels: Tensor, labels: Tensor, device: torch.device) -> float:
    """Share of correct classes in percent, in float32."""
    model.eval()
    with torch.inference_mode():
        hits = sum(
            int((model(normalise(part.to(device)))[0].argmax(1).cpu() == truth).sum())
            for part, truth in zip(pixels.split(500), labels.split(500), strict=True)
        )
    return 100 * hits / len(labels)


def train_epoch(
    model: ResNet9,
    optimizer: torch.optim.Optimizer,
    data: tuple[Tensor, Tensor],
    recipe: Recipe,
    epoch: int,
    generator: torch.Generator,
) -> float:
    """One pass over the shuffled images; returns the mean loss."""
    pixels, labels = data
    device = next(model.parameters()).device
    size = next(side for until, side in recipe.sizes if epoch < until * recipe.epochs)
    batches = torch.randperm(len(labels), generator=generator)[: len(labels) // recipe.batch * recipe.batch]
    total, steps = 0.0, len(batches) // recipe.batch
    model.train()
    for step, rows in enumerate(batches.split(recipe.batch)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, (epoch + (step + 1) / steps) / recipe.epochs)
        images = augment(normalise(pixels[rows].to(device)), recipe, size, generator)
        with torch.autocast(device.type, torch.bfloat16):
            logits, _ = model(images)
        loss = F.cross_entropy(logits.float(), labels[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    arguments = parser.parse_args()
    recipe = Recipe(epochs=arguments.epochs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)

    paths, labels, classes = list_folder(arguments.data / "train")
    order = torch.randperm(len(paths), generator=generator)
    for row in order[: recipe.held_out].tolist():
        target = arguments.out / "held-out" / paths[row].parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths[row], target)
    kept = order[recipe.held_out :]
    pixels, labels = read_pixels([paths[row] for row in kept.tolist()]), labels[kept]
    test_paths, test_labels, _ = list_folder(arguments.data / "test")
    test_pixels = read_pixels(test_paths)

    model = ResNet9(len(classes)).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    losses, start = [], time.monotonic()
    for epoch in range(recipe.epochs):
        losses.append(round(train_epoch(model, optimizer, (pixels, labels), recipe, epoch, generator), 4))
        print(f"epoch {epoch + 1}/{recipe.epochs} loss {losses[-1]} after {time.monotonic() - start:.0f} s", flush=True)
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, arguments.out / "weights.safetensors")
    record = {
        "recipe": asdict(recipe),
        "losses": losses,
        "train_images": len(labels),
        "test_accuracy": accuracy(model, test_pixels, test_labels, device),
        "train_seconds": round(time.monotonic() - start),
        "device": device.type,
        "torch": str(torch.__version__),
    }
    (arguments.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    (arguments.out / "classes.json").write_text(json.dumps(classes) + "\n")
    print(f"test accuracy {record['test_accuracy']:.2f} %")


if __name__ == "__main__":
    main()
