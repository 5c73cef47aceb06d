"""Memory that two processes share, in places of one picture each."""

import os

import numpy as np
import pytest

from oodgate.errors import QueueFull
from oodgate.fronts.slots import FreeSlots, Shape, Slots, shape_for
from oodgate.settings import Settings

SHAPE = (2, 3, 3)


@pytest.fixture
def slots() -> Slots:
    return Slots.create(Shape(count=3, size=18))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def test_the_other_mapping_sees_each_picture_in_its_slot(slots: Slots) -> None:
    other = Slots(os.dup(slots.descriptor), slots.shape)
    for slot in range(3):
        slots.write(slot, picture(slot))
    for slot in range(3):
        assert (other.view(slot, SHAPE) == picture(slot)).all()


@pytest.mark.parametrize(("slot", "shape"), [(3, SHAPE), (-1, SHAPE), (0, (2, 3, 4)), (0, (19,))])
def test_what_does_not_fit_is_refused(slots: Slots, slot: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="there is no slot"):
        slots.view(slot, shape)


def test_each_slot_is_free_or_taken() -> None:
    free = FreeSlots(2)
    taken = {free.take(), free.take()}
    assert taken == {0, 1}
    with pytest.raises(QueueFull, match="2 images are being answered already"):
        free.take()
    free.give_back(1)
    assert (free.take(), len(free)) == (1, 0)


@pytest.mark.parametrize(
    ("crop", "max_queue", "expected"),
    [
        ((32, 32), 256, Shape(768, 3072)),  # what may wait, and 512 that are at work
        ((224, 224), 256, Shape(768, 150_528)),
        ((1024, 1024), 256, Shape(42, 3 * 2**20)),  # of 256 MiB, of which each of two fronts has half
        ((8192, 8192), 256, Shape(4, 3 * 2**26)),
    ],
)
def test_slots_are_for_the_queue_and_bounded_in_memory(crop: tuple[int, int], max_queue: int, expected: Shape) -> None:
    assert shape_for(Settings(fronts=2, max_queue=max_queue), crop) == expected
