"""Recorded forwards: the right recording for every number of images, and answers that stay. On a GPU: real graphs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from oodgate.cuda_graphs import SIZES, Answer, GpuRecorder, Recorded

CROP = (4, 4)
CPU = torch.device("cpu")


def work(pixels: Tensor) -> Answer:
    """Answers that depend on each image alone."""
    images = pixels.float()
    return images.mean((1, 2)), images.permute(0, 3, 1, 2) * 2


def pixels(images: int, seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed).integers(0, 256, (images, *CROP, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


class Repeater:
    """Records as a GPU does: the work reads the memory that it read, and its answer is written over the last one."""

    def __init__(self) -> None:
        self.replayed: list[int] = []

    def __call__(self, work: Callable[[], Answer]) -> tuple[Answer, Callable[[], None]]:
        answer = work()

        def again() -> None:
            self.replayed.append(len(answer[0]))
            for old, new in zip(answer, work(), strict=True):
                old.copy_(new)

        return answer, again


@pytest.mark.parametrize("images", range(1, max(SIZES) + 1))
def test_the_smallest_recording_that_has_room_answers_for_the_images_alone(images: int) -> None:
    recorder = Repeater()
    shown = pixels(images)
    found = Recorded(work, CROP, CPU, recorder)(shown)
    assert recorder.replayed == [min(size for size in SIZES if size >= images)]
    for answer, expected in zip(found, work(shown), strict=True):
        torch.testing.assert_close(answer, expected)


def test_more_images_than_any_recording_holds_are_answered_without_one() -> None:
    recorder = Repeater()
    shown = pixels(max(SIZES) + 1)
    torch.testing.assert_close(Recorded(work, CROP, CPU, recorder)(shown)[0], work(shown)[0])
    assert recorder.replayed == []


def test_what_a_replay_answered_is_not_changed_by_the_next() -> None:
    recorded = Recorded(work, CROP, CPU, Repeater())
    first = recorded(pixels(3))
    kept = [answer.clone() for answer in first]
    recorded(pixels(4, seed=1))
    for answer, expected in zip(first, kept, strict=True):
        assert torch.equal(answer, expected)


def test_images_of_an_earlier_batch_do_not_show_in_a_smaller_one() -> None:
    recorded = Recorded(work, CROP, CPU, Repeater())
    recorded(torch.full((4, *CROP, 3), 255, dtype=torch.uint8))
    shown = pixels(3)
    torch.testing.assert_close(recorded(shown)[0], work(shown)[0])


@pytest.mark.parametrize(("most", "largest"), [(1, 1), (2, 2), (5, 8), (64, 64), (1000, max(SIZES))])
def test_no_more_is_recorded_than_holds_the_largest_batch(most: int, largest: int) -> None:
    recorder = Repeater()
    recorded = Recorded(work, CROP, CPU, recorder, most)
    for images in (1, largest, largest + 1):
        torch.testing.assert_close(recorded(pixels(images))[0], work(pixels(images))[0])
    assert recorder.replayed == [1, largest]


def test_what_memory_does_not_suffice_for_is_not_recorded_and_is_answered_all_the_same() -> None:
    recorder = Repeater()

    def record(work: Callable[[], Answer]) -> tuple[Answer, Callable[[], None]]:
        answer, again = recorder(work)
        if len(answer[0]) > 4:
            raise torch.OutOfMemoryError
        return answer, again

    recorded = Recorded(work, CROP, CPU, record)
    for images in (5, 3):
        torch.testing.assert_close(recorded(pixels(images))[0], work(pixels(images))[0])
    assert recorder.replayed == [4]


def test_a_network_without_memory_for_one_image_is_not_recorded() -> None:
    def refuse(work: Callable[[], Answer]) -> tuple[Answer, Callable[[], None]]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        Recorded(work, CROP, CPU, refuse)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_replays_its_graphs_on_the_stream_of_the_caller() -> None:
    device = torch.device("cuda")
    with torch.inference_mode():
        recorded = Recorded(lambda shown: work(shown.to(device)), CROP, device, GpuRecorder())
        with torch.cuda.stream(torch.cuda.Stream()):
            for images in (1, 3, 16, 17, 3, 257, 1):
                shown = pixels(images, seed=images)
                for answer, expected in zip(recorded(shown), work(shown), strict=True):
                    torch.testing.assert_close(answer.cpu(), expected)
