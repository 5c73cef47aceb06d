"""A network's forward as CUDA graphs: recorded once for each of a few sizes, then started by one call.

A forward of a few images is hundreds of small kernels. Started one by one from the host they may take it longer than
they take the GPU. And for every size of batch that it has not met before, each thread has convolutions planned anew,
while that batch waits; what was recorded is planned.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from oodgate.normalise import uploaded

Answer = tuple[Tensor, Tensor]
Forward = Callable[[Tensor], Answer]
"""Takes uint8 pixels (N, H, W, 3) and answers (logits, activation)."""

Recorder = Callable[[Callable[[], Answer]], tuple[Answer, Callable[[], None]]]
"""Records work on memory that stays; returns its answer, and what does the work again, into the same answer."""

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Of the batches that are recorded; one in between has images of no use beside its own."""

MOST_RECORDED = SIZES[-1]

_WARM_UP = 3  # what libraries make ready in their first runs cannot be recorded


class Recorded:
    """A forward that replays recordings; one thread at a time may call it."""

    def __init__(
        self, forward: Forward, crop: tuple[int, int], device: torch.device, record: Recorder, most: int = MOST_RECORDED
    ) -> None:
        """Record batches of every size up to the first that holds `most`, as far as there is memory for them.

        Raises RuntimeError where the forward cannot be recorded.
        """
        self._forward = forward
        self._recordings: dict[int, Recording] = {}
        wanted = [size for place, size in enumerate(SIZES) if not place or SIZES[place - 1] < most]
        for size in reversed(wanted):  # the smaller ones find room in the memory of the largest
            try:
                self._recordings[size] = Recording(forward, (size, *crop, 3), device, record)
            except torch.OutOfMemoryError:
                if size == SIZES[0]:
                    raise

    def __call__(self, pixels: Tensor) -> Answer:
        """The answers for so many images, by the smallest recording that has room for them."""
        size = min((size for size in self._recordings if size >= len(pixels)), default=None)
        return self._recordings[size].replay(pixels) if size else self._forward(pixels)


class Recording:
    """The forward of one size of batch, and the memory that it reads and writes."""

    def __init__(self, forward: Forward, shape: tuple[int, ...], device: torch.device, record: Recorder) -> None:
        self._pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._answer, self._again = record(lambda: forward(self._pixels))

    def replay(self, pixels: Tensor) -> Answer:
        """The answers for so many images or fewer; they are copies, which the next replay leaves as they are."""
        images = len(pixels)
        self._pixels[:images].copy_(uploaded(pixels, self._pixels.device))
        self._again()
        logits, activation = self._answer
        return logits[:images].clone(), activation[:images].clone()


class GpuRecorder:
    """Records work as CUDA graphs, which run on the stream of whoever starts them, one at a time.

    All share their working memory: what one leaves there besides its answer nobody needs.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Answer]) -> tuple[Answer, Callable[[], None]]:  # noqa: D102
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may be at forwards of their own: what they ask of CUDA is none of this recording's business.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            answer = work()
        return answer, graph.replay
