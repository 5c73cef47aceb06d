"""The process in which libFuzzer damages image files; `fuzz.py` starts it, with libFuzzer's own options."""

import contextlib
import sys

import atheris

# Imported before anything else of the project, since only what is imported here guides the damage.
with atheris.instrument_imports(include=["PIL", "oodgate.images"]):
    from oodgate.errors import InvalidImage, TooManyPixels
    from oodgate.images.decode import decode
    from oodgate.images.preprocess import Preprocessing, preprocess

from oodgate.settings import IMAGE_TYPES

FORMATS = tuple(IMAGE_TYPES)
MAX_PIXELS = 50_000_000
WANTED = Preprocessing(resize=32, crop=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))


def target(data: bytes) -> None:
    """A picture of the wanted size, or one of the two errors; anything else is a finding."""
    with contextlib.suppress(InvalidImage, TooManyPixels):
        assert preprocess(decode(data, MAX_PIXELS, FORMATS), WANTED).shape == (32, 32, 3)


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
