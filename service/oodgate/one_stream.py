"""Forwards of several threads on one stream of a GPU, each computed whole before the next.

On streams of their own they would share the GPU, end at the same time, and leave it idle while all threads prepare
their next batches. In turns, one is computed while the others are prepared.
"""

import threading

import torch
from torch import Tensor

from oodgate.cuda_graphs import Answer, Forward
from oodgate.normalise import uploaded


class OneStream:
    """Runs forwards in the order in which threads ask for them; their other work stays on their own streams."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._launching = threading.Lock()

    def run(self, forward: Forward, pixels: Tensor) -> Answer:
        """The answer, which what the calling thread does next on its stream will find there."""
        own = torch.cuda.current_stream(self._device)
        here = uploaded(pixels, self._device)
        there = own.record_event()
        with self._launching, torch.cuda.stream(self._stream):
            self._stream.wait_event(there)
            answer = forward(here)
            done = self._stream.record_event()
        # From here on the thread's stream is behind the forward, so that the memory of the pixels may be used again.
        own.wait_event(done)
        for tensor in answer:
            tensor.record_stream(own)  # else its memory were the next forward's as soon as the thread lets go of it
        return answer
