"""The process's memory once it has started: what is not needed goes back, what stays is not searched for garbage."""

import ctypes
import gc
import re
from contextlib import suppress
from mmap import MADV_DONTNEED
from pathlib import Path

# Of a file, not writable, and every page still as in the file, here or in the swap space: other than these are written
# over when libraries load.
_CLEAN = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r-[x-]p .* /.+\n(?:[A-Z].*\n)*?Anonymous: +0 kB\n(?:[A-Z].*\n)*?Swap: +0 kB$",
    re.MULTILINE,
)


def settle() -> None:
    """Free what loading left behind, and exempt what lives now from garbage collection; takes part of a second.

    Models and modules are a million objects, and each full collection would stop all requests to walk them.
    """
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # another system, or another C library than glibc
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        for mapping in _CLEAN.finditer(Path("/proc/self/smaps").read_text()):
            start, end = (int(address, 16) for address in mapping.groups())
            # Loading reads most of libraries that are never called, above all CUDA's; what is called comes back.
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)
