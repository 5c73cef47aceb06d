"""Sound image files as Pillow writes them, and their pixels as Pillow reads them."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from conftest import random_picture


def written(image_format: str, width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    """A file of one seeded picture."""
    file = BytesIO()
    picture = random_picture(0).resize((width, height), Image.Resampling.BICUBIC)
    picture.convert(mode).save(file, image_format, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """RGB pixels (H, W, 3) of a file."""
    with Image.open(BytesIO(data)) as image:
        return np.array(image.convert("RGB"))
