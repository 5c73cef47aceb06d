"""The job that every peer does, the same code for all: bytes of an image -> pixels -> the most probable class."""

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

JOB = json.loads(Path(os.environ["JOB"]).read_text())
PORT = int(os.environ["PORT"])
DEVICE, DTYPE = JOB["device"], getattr(torch, JOB["precision"])
WORKERS, MAX_BATCH, MAX_WAIT_MS = JOB["workers"], JOB["max_batch"], JOB["max_wait_ms"]


def decode(data: bytes) -> np.ndarray:
    """Pixels (H, W, 3) of an image file: shorter side resized, centre cropped."""
    image = Image.open(BytesIO(data)).convert("RGB")
    resize, crop = JOB["resize"], JOB["crop"]
    if min(image.size) != resize:
        width, height = (resize * side // min(image.size) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


class Network:
    """The TorchScript network of one worker, with its share of the cores."""

    def __init__(self) -> None:
        torch.set_num_threads(JOB["threads"])
        self._network = torch.jit.load(JOB["model"], map_location=DEVICE).eval().to(DTYPE)
        self._mean, self._std = (255 * torch.tensor(JOB[name], device=DEVICE).view(3, 1, 1) for name in ("mean", "std"))
        self([np.zeros((JOB["crop"], JOB["crop"], 3), dtype=np.uint8)] * MAX_BATCH)

    def __call__(self, images: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """The most probable class of every image."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(images)).to(DEVICE).permute(0, 3, 1, 2)
            answer = self._network(pixels.float().sub_(self._mean).div_(self._std).to(DTYPE))
            logits = answer[0] if isinstance(answer, tuple) else answer
            probabilities, classes = logits.float().softmax(1).max(1)
        found = zip(classes.tolist(), probabilities.tolist(), strict=True)
        return [{"class": index, "probability": probability} for index, probability in found]
