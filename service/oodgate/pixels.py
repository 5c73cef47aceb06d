"""Preprocessed images on their way to the network: what opens them, what they are, how they become a batch."""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oodgate.errors import RequestError, SetupError
from oodgate.images.opening import HostOpener, OpenPicture
from oodgate.images.preprocess import Preprocessing
from oodgate.settings import Decoding

Pixels = NDArray[np.uint8] | Tensor
"""One preprocessed image, uint8 (H, W, 3): on the host, or a tensor on the device."""


class Ready(Protocol):
    """A picture that was opened."""

    @property
    def pixels(self) -> Pixels: ...  # noqa: D102

    @property
    def decode_ms(self) -> float: ...  # noqa: D102


class Opener(Protocol):
    """Opens the pictures of a batch."""

    def open(self, pictures: Sequence[OpenPicture], /) -> Sequence[Ready | RequestError]:
        """Every picture or its error, in order; never raises."""


def opener_of(
    preprocessing: Preprocessing, decoding: Decoding, device: torch.device, helpers: Executor | None = None
) -> Opener:
    """What opens pictures for a network on a device; raises SetupError where the device has to and cannot."""
    host = HostOpener(preprocessing, helpers)
    if decoding == "host":
        return host
    try:
        from oodgate.images.on_device import DeviceDecoder, DeviceOpener
    except ModuleNotFoundError as error:  # nothing else that serves needs torchvision
        raise SetupError(
            "decoding on the device needs torchvision; run `pip install torchvision`, or decode on the host"
        ) from error
    return DeviceOpener(DeviceDecoder(preprocessing, device), host)


def stack(images: Sequence[Pixels], pinned: bool = False) -> Tensor:
    """One uint8 tensor (N, H, W, 3) of many images; on the device where one of them is there.

    Else its memory may be `pinned`, from which a GPU fetches it while the host goes on.
    """
    on_host = [image for image in images if not isinstance(image, Tensor)]
    if len(on_host) < len(images):
        device = next(image.device for image in images if isinstance(image, Tensor))
        return torch.stack([torch.as_tensor(image, device=device) for image in images])
    batch = torch.empty(len(images), *on_host[0].shape, dtype=torch.uint8, pin_memory=pinned)
    np.stack(on_host, out=batch.numpy())
    return batch
