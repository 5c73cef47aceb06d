"""Forwards of several threads on one stream of a GPU: each gets the answer for its own pixels."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from oodgate.cuda_graphs import Answer
from oodgate.one_stream import OneStream


def slow_forward(pixels: Tensor) -> Answer:
    """Answers that depend on each image alone, after work that outlasts the launching of what follows."""
    images = pixels.float().flatten(1)
    mixed = torch.ones(2048, 2048, device=pixels.device)
    for _ in range(20):
        mixed = mixed @ mixed / 2048
    return images.sum(1) * mixed[0, 0], images


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_thread_of_a_gpu_gets_the_answers_for_its_own_pixels() -> None:
    device = torch.device("cuda")
    one_stream = OneStream(device)

    def enter() -> None:
        torch.cuda.set_stream(torch.cuda.Stream(device))

    def wrong(seed: int) -> int:
        pixels = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        sums, images = one_stream.run(slow_forward, pixels)
        found = torch.cat([sums[:, None], images], 1).cpu()
        expected = pixels.flatten(1).float()
        return int((found[:, 0] != expected.sum(1)).sum()) + int((found[:, 1:] != expected).sum())

    with ThreadPoolExecutor(4, initializer=enter) as threads:
        assert sum(threads.map(wrong, range(200))) == 0
