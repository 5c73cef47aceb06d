"""Preprocessed images become a batch, on the host or where one of them is."""

import sys

import numpy as np
import pytest
import torch

from oodgate.errors import SetupError
from oodgate.images.on_device import DeviceOpener
from oodgate.images.opening import HostOpener
from oodgate.images.preprocess import Preprocessing
from oodgate.pixels import opener_of, stack

PREPROCESSING = Preprocessing(resize=16, crop=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
IMAGES = list(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))


def test_images_are_stacked_without_change() -> None:
    stacked = stack(IMAGES)
    assert (stacked.dtype, stacked.shape) == (torch.uint8, (3, 16, 16, 3))
    np.testing.assert_array_equal(stacked.numpy(), IMAGES)


def test_images_on_the_device_are_stacked_with_those_of_the_host() -> None:
    stacked = stack([IMAGES[0], torch.from_numpy(IMAGES[1]), IMAGES[2]])
    assert (stacked.dtype, stacked.shape) == (torch.uint8, (3, 16, 16, 3))
    np.testing.assert_array_equal(stacked.numpy(), IMAGES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_for_a_gpu_lies_in_memory_that_it_can_fetch_from() -> None:
    assert stack(IMAGES, pinned=True).is_pinned()
    assert stack([IMAGES[0], torch.from_numpy(IMAGES[1]).cuda()]).device.type == "cuda"


def test_pictures_are_opened_where_the_operator_says() -> None:
    cpu = torch.device("cpu")
    assert isinstance(opener_of(PREPROCESSING, "host", cpu), HostOpener)
    assert isinstance(opener_of(PREPROCESSING, "device", cpu), DeviceOpener)


def test_decoding_on_the_device_without_torchvision_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "oodgate.images.on_device")
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    with pytest.raises(SetupError, match="needs torchvision; run `pip install torchvision`, or decode on the host"):
        opener_of(PREPROCESSING, "device", torch.device("cpu"))
    assert isinstance(opener_of(PREPROCESSING, "host", torch.device("cpu")), HostOpener)
