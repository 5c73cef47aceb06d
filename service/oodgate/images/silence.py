"""Pillow and libtiff tell the terminal about every damaged file; a stranger could fill the log with them."""

import ctypes
import logging
import warnings
from contextlib import suppress

from PIL import _imaging


def silence_decoders() -> None:
    """Turn off what the decoders say beside the error that they raise, for the whole process and every thread."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    _silence_libtiff()


def _silence_libtiff() -> None:
    # A symbol is looked up in what Pillow's own library was linked with too, so this is the libtiff that decodes,
    # bundled or the system's. Where it is linked in statically its functions cannot be reached, and it goes on talking.
    with suppress(OSError, AttributeError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)
