"""Faster copies of a network: the same answers, for any number of images, kept apart from each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from networks import DeeperNetwork
from oodgate.acceleration import ON_CPU, Copies, Original
from oodgate.engines import load_network, save_network
from oodgate.images.preprocess import Preprocessing
from oodgate.normalise import Normalise
from oodgate.settings import Acceleration

SIDE = 16
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PREPROCESSING = Preprocessing(resize=SIDE, crop=(SIDE, SIDE), mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def network() -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    saved = save_network(DeeperNetwork().eval(), torch.zeros(2, 3, SIDE, SIDE))
    return load_network(saved, torch.device("cpu"))


def copies_by(acceleration: Acceleration, network: torch.jit.ScriptModule) -> Copies:
    normalise = Normalise(PREPROCESSING, torch.device("cpu"), torch.float32)
    copies = ON_CPU[acceleration](Original(network, PREPROCESSING, normalise))
    assert copies is not None
    return copies


def pixels(number: int, seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed).integers(0, 256, (number, SIDE, SIDE, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


def answers(network: torch.jit.ScriptModule, shown: Tensor) -> tuple[Tensor, Tensor]:
    """What the network itself says, of pixels normalised in double precision."""
    images = (shown.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    with torch.inference_mode():
        return network(images.float().permute(0, 3, 1, 2).contiguous())


@pytest.mark.parametrize("acceleration", ON_CPU)
def test_a_copy_answers_as_the_network_for_any_number_of_images(
    acceleration: Acceleration, network: torch.jit.ScriptModule
) -> None:
    (copy,) = copies_by(acceleration, network)(1, 1, 16)
    with torch.inference_mode():
        for number in (1, 2, 3, 7, 1):
            for found, expected in zip(copy(pixels(number)), answers(network, pixels(number)), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("acceleration", ON_CPU)
def test_the_next_answer_leaves_the_last_as_it_was(acceleration: Acceleration, network: torch.jit.ScriptModule) -> None:
    (copy,) = copies_by(acceleration, network)(1, 1, 16)
    with torch.inference_mode():
        first = copy(pixels(2))
        before = [answer.clone() for answer in first]
        copy(pixels(2, seed=1))
    assert all(torch.equal(answer, kept) for answer, kept in zip(first, before, strict=True))


@pytest.mark.parametrize("acceleration", ON_CPU)
def test_copies_at_work_at_the_same_time_do_not_mix_their_images(
    acceleration: Acceleration, network: torch.jit.ScriptModule
) -> None:
    copies = copies_by(acceleration, network)(4, 1, 16)

    def largest_difference(place: int) -> float:
        with torch.inference_mode():
            differences = [
                float((copies[place](pixels(3, seed))[0] - answers(network, pixels(3, seed))[0]).abs().max())
                for seed in range(place, 200, 4)
            ]
        return max(differences)

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(largest_difference, range(4))) < 1e-5
