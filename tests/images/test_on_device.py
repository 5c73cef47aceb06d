"""Images decoded and resized on a device: the host's pixels within a grey level or two, and nobody's loss."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import encoded, random_picture, without_tables
from oodgate.errors import InvalidImage, SetupError
from oodgate.images import on_device
from oodgate.images.on_device import DeviceDecoder, DeviceOpener, OpenedOnDevice, portions
from oodgate.images.opening import FilePicture, HostOpener, Opened
from oodgate.images.plain import PlainFile
from oodgate.images.preprocess import Interpolation, Preprocessing
from oodgate.settings import IMAGE_TYPES

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
MOST_LEVELS = {"cpu": 2, "cuda": 24}
MEAN_LEVELS = {"cpu": 0.5, "cuda": 1.5}


def preprocessing(interpolation: Interpolation = "bilinear") -> Preprocessing:
    return Preprocessing(
        resize=24, crop=(20, 16), interpolation=interpolation, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )


def smooth(seed: int, size: tuple[int, int] = (61, 47), mode: str = "RGB") -> bytes:
    """A JPEG without noise, of which all decoders make nearly the same."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = BytesIO()
    picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)
    picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def pictures(*files: bytes) -> list[FilePicture]:
    return [FilePicture(data, 10**6, tuple(IMAGE_TYPES)) for data in files]


def opener(device: str = "cpu", interpolation: Interpolation = "bilinear") -> DeviceOpener:
    chosen = preprocessing(interpolation)
    return DeviceOpener(DeviceDecoder(chosen, torch.device(device)), HostOpener(chosen))


def on_host(found: Sequence[object]) -> list[np.ndarray]:
    return [np.asarray(one.pixels.cpu()) for one in found if isinstance(one, OpenedOnDevice)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_a_device_opens_plain_files_nearly_as_the_host_does(device: str, interpolation: Interpolation) -> None:
    asked = pictures(smooth(0), smooth(1, (30, 90)), smooth(2, (24, 24)), smooth(3, mode="L"), smooth(4, (20, 22)))
    found = on_host(opener(device, interpolation).open(asked))
    expected = [one.pixels for one in HostOpener(preprocessing(interpolation)).open(asked) if isinstance(one, Opened)]
    assert len(found) == len(expected) == len(asked)
    for pixels, reference in zip(found, expected, strict=True):
        assert (pixels.shape, pixels.dtype) == ((20, 16, 3), np.uint8)
        levels = np.abs(pixels.astype(int) - reference.astype(int))
        assert levels.max() <= MOST_LEVELS[device]
        assert levels.mean() <= MEAN_LEVELS[device]


def test_what_is_not_plain_is_opened_on_the_host_in_its_place() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    file = BytesIO()
    random_picture(1).save(file, "JPEG", exif=turned)
    asked = [
        *pictures(smooth(0), encoded(random_picture(0)), b"no image", file.getvalue()),
        lambda: np.array(random_picture(2)),
    ]
    found = opener().open([*asked, *pictures(smooth(1))])
    kinds = [type(one) for one in found]
    assert kinds == [OpenedOnDevice, Opened, InvalidImage, Opened, Opened, OpenedOnDevice]
    for place in (1, 3, 4):
        (expected,) = HostOpener(preprocessing()).open([asked[place]])
        assert isinstance(expected, Opened)
        one = found[place]
        assert isinstance(one, Opened)
        np.testing.assert_array_equal(one.pixels, expected.pixels)


def test_a_file_that_the_device_refuses_costs_its_neighbours_nothing() -> None:
    found = opener().open(pictures(smooth(0), without_tables(smooth(2)), smooth(1)))
    assert [type(one) for one in found] == [Opened, InvalidImage, Opened]


def test_files_are_decoded_together_up_to_a_number_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_device, "_MOST_PIXELS", 10)
    files = {place: PlainFile(b"", pixels) for place, pixels in zip((0, 2, 3, 5, 6), (4, 6, 1, 50, 10), strict=True)}
    assert [list(portion) for portion in portions(files)] == [[0, 2], [3], [5], [6]]
    assert list(portions({})) == []


def test_a_network_whose_images_no_device_resizes_alike_is_refused() -> None:
    with pytest.raises(SetupError, match="no device resizes by lanczos interpolation"):
        DeviceDecoder(preprocessing("lanczos"), torch.device("cpu"))


def test_a_device_without_a_decoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not compiled with nvJPEG support")

    monkeypatch.setattr(on_device, "decode_jpeg", refuse)
    with pytest.raises(SetupError, match="torchvision cannot decode a JPEG on cpu; decode on the host"):
        DeviceDecoder(preprocessing(), torch.device("cpu"))


def test_files_of_one_size_are_preprocessed_together_and_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    sizes = [(61, 47), (30, 90), (61, 47), (24, 24), (61, 47)]
    files = [smooth(seed, size) for seed, size in enumerate(sizes)]
    decoder = DeviceDecoder(preprocessing(), torch.device("cpu"))
    alone = [decoder.decode([data])[0] for data in files]
    whole = decoder._preprocess
    monkeypatch.setattr(decoder, "_preprocess", lambda pictures: together.append(len(pictures)) or whole(pictures))
    for pixels, expected in zip(decoder.decode(files), alone, strict=True):
        assert torch.equal(pixels, expected)
    assert together == [3, 1, 1]
