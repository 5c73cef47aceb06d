"""How long images will wait, judged by how long batches took."""

_WEIGHT = 0.2  # of the newest
# Above the mean, TCP's number: what is refused in vain costs little, what is answered too late was done for nothing.
_DEVIATIONS = 4.0


class Typical:
    """A mean and a mean deviation, smoothed as TCP does with round trips (RFC 6298)."""

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    def learn(self, seconds: float) -> None:
        """Take in a duration."""
        if not self._mean:
            self._mean = seconds
        self._deviation += _WEIGHT * (abs(seconds - self._mean) - self._deviation)
        self._mean += _WEIGHT * (seconds - self._mean)

    @property
    def most_s(self) -> float:
        """What few durations exceed; 0 before the first."""
        return self._mean + _DEVIATIONS * self._deviation


class Pace:
    """Durations of the batches of several workers. Not safe between threads."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._batch, self._image = Typical(), Typical()

    def learn(self, images: int, seconds: float) -> None:
        """Take in how long one worker took for a batch."""
        self._batch.learn(seconds)
        self._image.learn(seconds / images)

    def answer_s(self, ahead: int) -> float:
        """Seconds after which an image is most probably answered that joins behind others; 0 before the first batch.

        It waits for the batch at work, for those ahead, and for a batch of its own.
        """
        return 2 * self._batch.most_s + self.busy_s(ahead)

    def busy_s(self, waiting: int) -> float:
        """Seconds for which images that wait will most probably keep the workers busy; 0 before the first batch."""
        return waiting * self._image.most_s / self._workers
