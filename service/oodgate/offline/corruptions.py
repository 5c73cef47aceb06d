"""The 15 corruptions of ImageNet-C, which turn in-distribution pictures into pseudo-OOD ones for the search of w.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", 2019,
as the package imagecorruptions-imaug computes them; the NAP paper uses all 15 (appendix H).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import imagecorruptions
import numpy as np
from numpy.typing import NDArray

from oodgate.errors import CalibrationError

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 32

# These two ignore numpy's global generator: scikit-image and numba draw from their own.
_TAKES_SEED = ("impulse_noise", "glass_blur")
_SMALL_SIDE = 64
_global_generator = Lock()


def severities(side: int) -> tuple[int, ...]:
    """The severities worth applying to pictures whose shorter side is `side` pixels.

    The constants are ImageNet-C's, made for 224 pixels. On small pictures the upper two wipe out what the picture
    showed, and motion blur runs over the border.
    """
    return SEVERITIES[:3] if side < _SMALL_SIDE else SEVERITIES


def corrupt(image: NDArray[np.uint8], name: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """Apply one of CORRUPTIONS to uint8 pixels (H, W, 3); the same seed, 0 to 2^32 - 1, gives the same picture.

    Calls from several threads wait for each other. Raises CalibrationError where a side is shorter than
    SMALLEST_SIDE, ValueError for an unknown name or severity.
    """
    _check(image, name, severity)
    options = {"seed": seed} if name in _TAKES_SEED else {}
    with _numpy_seeded(seed):
        corrupted = imagecorruptions.corrupt(image, severity, name, **options)
    return np.array(corrupted, dtype=np.uint8)


def _check(image: NDArray[np.uint8], name: str, severity: int) -> None:
    if name not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {name!r}; expected one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity} must be one of 1 to 5")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise CalibrationError(
            f"corruptions need pictures of {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels or more, not {height} x {width}; "
            "enlarge the network's input or choose the score without corruptions"
        )


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    # The package draws from numpy's global generator and offers no other way. It is seeded for the call and put back,
    # so nobody's random numbers change; the lock keeps two corruptions from drawing from one stream. Another thread
    # that uses the global generator during the call would still disturb it: oodgate itself never does.
    with _global_generator:
        before = np.random.get_state(legacy=False)
        try:
            np.random.seed(seed)
            yield
        finally:
            np.random.set_state(before)
