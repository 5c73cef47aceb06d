"""How long images will wait, judged by how long batches took."""

_WEIGHT = 0.2  # of the newest batch


class Pace:
    """Smoothed durations of the batches of several workers. Not safe between threads."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._batch_s = self._image_s = 0.0

    def learn(self, images: int, seconds: float) -> None:
        """Take in how long one worker took for a batch."""
        weight = _WEIGHT if self._batch_s else 1.0
        self._batch_s += weight * (seconds - self._batch_s)
        self._image_s += weight * (seconds / images - self._image_s)

    def answer_s(self, ahead: int) -> float:
        """Seconds until an image is answered that joins behind so many others; 0 before the first batch."""
        return ahead * self._image_s / self._workers + self._batch_s
