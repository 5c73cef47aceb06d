"""Plain JPEG files -> uint8 pixels of the network's input size, decoded and resized on its device: on a GPU by nvJPEG.

A device rounds otherwise than the host does, so that a threshold holds for its pixels only where it was checked with
them. What is not plain is opened on the host, and so is what the device does not open: the host says what is wrong.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from time import perf_counter
from typing import TypeVar

import structlog
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from oodgate.errors import RequestError, SetupError
from oodgate.images.opening import HostOpener, Opened, OpenPicture
from oodgate.images.plain import PlainFile, plain_file
from oodgate.images.preprocess import Interpolation, Preprocessing, resized_size

Item = TypeVar("Item")
Result = TypeVar("Result")

_MODES: dict[Interpolation, InterpolationMode] = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}
_MOST_PIXELS = 64_000_000  # decoded at the same time, unless it is one picture

log = structlog.stdlib.get_logger("oodgate")


@dataclass(frozen=True, slots=True)
class OpenedOnDevice:
    """uint8 pixels (H, W, 3) on the device, and how long the host was at it."""

    pixels: Tensor
    decode_ms: float


class DeviceDecoder:
    """Decodes JPEG files on a device and preprocesses them there."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        """Raises SetupError where the device has no decoder, or cannot resize as the network was trained."""
        if preprocessing.interpolation not in _MODES:
            raise SetupError(
                f"no device resizes by {preprocessing.interpolation} interpolation, as this network's images have to "
                "be; decode on the host"
            )
        self.preprocessing, self._device = preprocessing, device
        try:
            self.decode([_smallest_jpeg()])
        except RuntimeError as error:
            raise SetupError(f"torchvision cannot decode a JPEG on {device.type}; decode on the host") from error

    def decode(self, files: Sequence[bytes]) -> list[Tensor]:
        """uint8 pixels (H, W, 3) of every file; raises RuntimeError where one cannot be read, or memory is missing."""
        encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        pictures = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=self._device)
        return in_groups(pictures, lambda picture: picture.shape, self._preprocess)

    def _preprocess(self, pictures: Sequence[Tensor]) -> Tensor:
        """As `preprocess` does, of many (3, H, W) of one size; one call for all, since each takes a GPU's host long."""
        stacked = torch.stack(list(pictures))
        width, height = resized_size((stacked.shape[3], stacked.shape[2]), self.preprocessing.resize)
        mode = _MODES[self.preprocessing.interpolation]
        resized = resize(stacked, [height, width], interpolation=mode, antialias=True)
        cropped: Tensor = center_crop(resized, list(self.preprocessing.crop))
        return cropped.permute(0, 2, 3, 1)


class DeviceOpener:
    """Opens plain JPEG files on the device, everything else on the host."""

    def __init__(self, decoder: DeviceDecoder, host: HostOpener) -> None:
        self._decoder, self._host = decoder, host

    def open(self, pictures: Sequence[OpenPicture]) -> list[Opened | OpenedOnDevice | RequestError]:
        """Every picture or its error, in order."""
        plain = {
            place: file for place, one in enumerate(pictures) if (file := plain_file(one, self._decoder.preprocessing))
        }
        found: dict[int, OpenedOnDevice] = {}
        for portion in portions(plain):
            found |= self._open_here(portion)
        others = iter(self._host.open([one for place, one in enumerate(pictures) if place not in found]))
        return [found[place] if place in found else next(others) for place in range(len(pictures))]

    def _open_here(self, files: Mapping[int, PlainFile]) -> dict[int, OpenedOnDevice]:
        """All of the files, or none where the device refuses one."""
        start = perf_counter()
        try:
            opened = self._decoder.decode([file.data for file in files.values()])
        except RuntimeError as error:
            log.info("JPEG files are decoded on the host instead", files=len(files), reason=str(error))
            return {}
        share_ms = 1000 * (perf_counter() - start) / len(files)
        return {place: OpenedOnDevice(pixels, share_ms) for place, pixels in zip(files, opened, strict=True)}


def in_groups(
    items: Sequence[Item], kind: Callable[[Item], Hashable], work: Callable[[Sequence[Item]], Iterable[Result]]
) -> list[Result]:
    """The work's result for every item, in order; it is done once for all items of a kind."""
    groups: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(kind(item), []).append(place)
    found: dict[int, Result] = {}
    for places in groups.values():
        found |= zip(places, work([items[place] for place in places]), strict=True)
    return [found[place] for place in range(len(items))]


def portions(files: Mapping[int, PlainFile]) -> Iterator[dict[int, PlainFile]]:
    """The files in portions that are decoded at the same time."""
    portion: dict[int, PlainFile] = {}
    total = 0
    for place, file in files.items():
        if portion and total + file.pixels > _MOST_PIXELS:
            yield portion
            portion, total = {}, 0
        portion[place] = file
        total += file.pixels
    if portion:
        yield portion


def _smallest_jpeg() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()
