"""What the device process has refused lately, for a front that refuses the same by itself.

A request that the device process refuses costs it a question and an answer, and the front a picture that nobody judges.
"""

from dataclasses import dataclass
from time import monotonic

from oodgate.errors import RequestError
from oodgate.fronts.messages import pack_refusal, read_refusal

# Of the time that the work that waits will last, so that workers never wait; and longer than a front rests after a
# refusal (`api/rest.py`), since what came during a rest is there all at once after it.
_SHARE = 0.25
_LONGEST_S = 0.05


@dataclass(frozen=True, slots=True)
class _Refusal:
    payload: bytes  # an error that was raised would keep its request, and the image, alive
    patience_ms: float
    until_s: float  # monotonic


class Refusals:
    """The latest refusal of each lane, as others may have room. It is forgotten soon."""

    def __init__(self) -> None:
        self._latest: dict[str, _Refusal] = {}

    def learn(self, lane: str, patience_ms: float, error: RequestError) -> None:
        """Take in why a request of this lane, which could wait so long, was refused."""
        now = monotonic()
        self._latest = {lane: known for lane, known in self._latest.items() if now < known.until_s}
        if error.busy_s:
            until_s = now + min(_LONGEST_S, _SHARE * error.busy_s)
            self._latest[lane] = _Refusal(pack_refusal(error), patience_ms, until_s)

    def check(self, lane: str, patience_ms: float) -> None:
        """Raise what a request of this lane would be refused with now, if it can wait as long as the last or less."""
        known = self._latest.get(lane)
        if known and patience_ms <= known.patience_ms and monotonic() < known.until_s:
            raise read_refusal(known.payload)
