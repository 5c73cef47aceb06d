"""Train the network of the embedded bundle: ResNet-9 on CIFAR-10, 5,000 training images held out.

    python train.py --data FOLDER --out FOLDER

DATA holds `train/<class>/*.png` and `test/<class>/*.png`. OUT receives `weights.safetensors`, `classes.json`,
`training.json` (settings; loss per epoch, accuracy and time of each cycle) and `held-out/<class>/*.png`, the images
that training never saw. Images grow during a cycle, which shortens it. An interrupted run goes on with the cycle that
it was in.
"""

import argparse
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from oodgate.offline.backbones.resnet9 import ResNet9

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class Cycle:
    """One rise and fall of the learning rate."""

    epochs: int
    peak_learning_rate: float
    warmup: float  # share of the steps before the peak
    sizes: tuple[tuple[float, int], ...]  # (until this share of the epochs, side in pixels)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result."""

    cycles: tuple[Cycle, ...] = (
        Cycle(30, 0.2, 0.2, ((1 / 3, 20), (0.6, 24), (1.0, 32))),
        Cycle(12, 0.1, 0.1, ((0.4, 24), (1.0, 32))),
    )
    batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_padding: int = 4
    cutout: int = 8  # side of the erased square, pixels
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


def learning_rate(cycle: Cycle, progress: float) -> float:
    """Linear rise to the peak, then half a cosine down to zero."""
    if progress < cycle.warmup:
        return cycle.peak_learning_rate * progress / cycle.warmup
    return cycle.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - cycle.warmup) / (1 - cycle.warmup)))


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
    at: tuple[Cycle, int],
    generator: torch.Generator,
) -> float:
    """One pass over the shuffled images, at an epoch of a cycle; returns the mean loss."""
    (pixels, labels), (cycle, epoch) = data, at
    device = next(model.parameters()).device
    size = next(side for until, side in cycle.sizes if epoch < until * cycle.epochs)
    batches = torch.randperm(len(labels), generator=generator)[: len(labels) // recipe.batch * recipe.batch]
    total, steps = 0.0, len(batches) // recipe.batch
    model.train()
    for step, rows in enumerate(batches.split(recipe.batch)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(cycle, (epoch + (step + 1) / steps) / cycle.epochs)
        images = augment(normalise(pixels[rows].to(device)), recipe, size, generator)
        with torch.autocast(device.type, torch.bfloat16):
            logits, _ = model(images)
        loss = F.cross_entropy(logits.float(), labels[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / steps


def train_cycle(
    model: ResNet9, data: tuple[Tensor, Tensor], recipe: Recipe, cycle: Cycle, generator: torch.Generator
) -> dict[str, Any]:
    """All epochs of one cycle, with an optimizer of its own; returns losses and time."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    losses, start = [], time.monotonic()
    for epoch in range(cycle.epochs):
        losses.append(round(train_epoch(model, optimizer, data, recipe, (cycle, epoch), generator), 4))
        print(f"epoch {epoch + 1}/{cycle.epochs} loss {losses[-1]} after {time.monotonic() - start:.0f} s", flush=True)
    return {"losses": losses, "seconds": round(time.monotonic() - start)}


def hold_out(paths: list[Path], folder: Path) -> None:
    """Copy files to `folder/<class>/`."""
    for path in paths:
        target = folder / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def train(recipe: Recipe, data: Path, out: Path) -> dict[str, Any]:
    """Every cycle that `out` does not hold already; returns the record."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    paths, labels, classes = list_folder(data / "train")
    order = torch.randperm(len(paths), generator=generator)
    hold_out([paths[row] for row in order[: recipe.held_out].tolist()], out / "held-out")
    (out / "classes.json").write_text(json.dumps(classes) + "\n")
    kept = order[recipe.held_out :]
    pixels, labels = read_pixels([paths[row] for row in kept.tolist()]), labels[kept]
    test_paths, test_labels, _ = list_folder(data / "test")
    test_pixels = read_pixels(test_paths)

    model = ResNet9(len(classes)).to(device).to(memory_format=torch.channels_last)
    record = {
        "recipe": asdict(recipe),
        "train_images": len(labels),
        "device": device.type,
        "torch": str(torch.__version__),
    }
    done = read_done(out)
    if done:
        model.load_state_dict(load_file(out / "weights.safetensors"))
    for number, cycle in enumerate(recipe.cycles[len(done) :], len(done)):
        if number > 0:
            generator.manual_seed(recipe.seed + number)
        result = train_cycle(model, (pixels, labels), recipe, cycle, generator)
        result["test_accuracy"] = accuracy(model, test_pixels, test_labels, device)
        print(f"cycle {number + 1}: test accuracy {result['test_accuracy']:.2f} %", flush=True)
        done.append(result)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, out / "weights.safetensors"
        )
        (out / "training.json").write_text(json.dumps({**record, "cycles": done}, indent=1) + "\n")
    return {**record, "cycles": done}


def read_done(out: Path) -> list[dict[str, Any]]:
    """The results of the cycles that are over."""
    record = out / "training.json"
    return list(json.loads(record.read_text())["cycles"]) if record.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    train(Recipe(), arguments.data, arguments.out)


if __name__ == "__main__":
    main()
