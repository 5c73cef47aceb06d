"""The process's memory once it has started: what is not needed goes back, what stays is not searched for garbage."""

import ctypes
import gc
from contextlib import suppress


def settle() -> None:
    """Free what loading left behind, and exempt what lives now from garbage collection; takes part of a second.

    Models and modules are a million objects, and each full collection would stop all requests to walk them.
    """
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # another C library than glibc has no such call
        ctypes.CDLL(None).malloc_trim(0)
