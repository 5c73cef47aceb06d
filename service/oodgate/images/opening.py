"""A picture is opened: from what decodes it to pixels of the network's input size, and how long that took."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import structlog
from numpy.typing import NDArray

from oodgate.errors import InferenceFailed, RequestError
from oodgate.images.decode import decode
from oodgate.images.preprocess import Preprocessing, preprocess

OpenPicture = Callable[[], NDArray[np.uint8]]
"""What makes RGB pixels (H, W, 3) of a picture, or raises the RequestError that says why there is none."""

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True, slots=True)
class FilePicture:
    """An image file that is not decoded yet, and the limits of one image."""

    data: bytes
    max_pixels: int
    formats: Sequence[str]

    def __call__(self) -> NDArray[np.uint8]:
        """Its pixels, as `decode` makes it."""
        return decode(self.data, self.max_pixels, self.formats)


@dataclass(frozen=True, slots=True)
class Opened:
    """uint8 pixels (H, W, 3), and how long the picture took to open."""

    pixels: NDArray[np.uint8]
    decode_ms: float


class HostOpener:
    """Opens pictures on the host's processor."""

    def __init__(self, preprocessing: Preprocessing, helpers: Executor | None = None) -> None:
        """`helpers` share the work where there are several pictures."""
        self._preprocessing = preprocessing
        self._open_many = helpers.map if helpers else map

    def open(self, pictures: Sequence[OpenPicture]) -> list[Opened | RequestError]:
        """Every picture or its error, in order."""
        open_all = self._open_many if len(pictures) > 1 else map
        return list(open_all(partial(opened, preprocessing=self._preprocessing), pictures))


def opened(picture: OpenPicture, preprocessing: Preprocessing) -> Opened | RequestError:
    """The picture, preprocessed, or the error that says why it cannot be opened; never raises."""
    start = perf_counter()
    try:
        pixels = preprocess(picture(), preprocessing)
    except RequestError as error:
        return error
    except Exception:  # neighbours have no part in it
        log.exception("a picture cannot be opened")
        return InferenceFailed("something unexpected happened to this image; the log has it")
    return Opened(pixels, 1000 * (perf_counter() - start))
