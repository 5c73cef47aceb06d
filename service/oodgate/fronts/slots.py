"""Memory that a front shares with the device process: places for the pixels of one picture each.

It belongs to no file system but to the processes that have it open, so that nothing is left of it when they are gone,
however they went; a name in /dev/shm would outlast a killed process, and containers have little room there.
"""

import mmap
import os
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from oodgate.errors import QueueFull
from oodgate.settings import Settings

_MOST_BYTES = 2**28  # of all fronts together
_FEWEST = 4
_AT_WORK = 512  # pictures that are in no queue: they are being opened, or judged


@dataclass(frozen=True)
class Shape:
    """How many slots a front has, and how many bytes each of them."""

    count: int
    size: int


def shape_for(settings: Settings, crop: tuple[int, int]) -> Shape:
    """Slots for what may wait and be at work, as far as the memory of all fronts stays within bounds."""
    size = 3 * prod(crop)
    affordable = _MOST_BYTES // settings.fronts // size
    return Shape(max(_FEWEST, min(settings.max_queue + _AT_WORK, affordable)), size)


class Slots:
    """The slots of one front, in memory that both processes see."""

    def __init__(self, descriptor: int, shape: Shape) -> None:
        self.descriptor = descriptor
        self.shape = shape
        self._memory = mmap.mmap(descriptor, shape.count * shape.size)

    @classmethod
    def create(cls, shape: Shape) -> "Slots":
        """New slots; each takes memory when it is first used."""
        descriptor = os.memfd_create("oodgate-slots")
        os.ftruncate(descriptor, shape.count * shape.size)
        return cls(descriptor, shape)

    def write(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Put pixels, which have to fit, into a slot."""
        self.view(slot, pixels.shape)[...] = pixels

    def view(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The pixels in a slot, not copied; raises ValueError where there is no such slot or it is too small."""
        if not 0 <= slot < self.shape.count or prod(shape) > self.shape.size:
            raise ValueError(f"there is no slot {slot} for pixels of shape {shape}")
        return np.frombuffer(self._memory, np.uint8, prod(shape), slot * self.shape.size).reshape(shape)


class FreeSlots:
    """Which slots a front may use; those used last come first, as their memory is there."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = list(reversed(range(count)))

    def check(self) -> None:
        """Raise QueueFull where no slot is free."""
        if not self._free:
            raise QueueFull(f"{self._count} images are being answered already; try again later")

    def take(self) -> int:
        """A slot, to be given back once; raises QueueFull where none is free."""
        self.check()
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Let a slot be used again."""
        self._free.append(slot)

    def __len__(self) -> int:
        return len(self._free)
