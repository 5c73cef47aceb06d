"""What the service adds to its quarantine: rejected images, and a sampled share of the accepted ones."""

from time import time

from oodgate.api.origin import Origin
from oodgate.bundle import Manifest
from oodgate.errors import QuarantineError
from oodgate.gate import Verdict
from oodgate.observability.metrics import Metrics
from oodgate.quarantine.archive import Archive, Bounds, open_archive
from oodgate.quarantine.keeper import KeeperLimits, Quarantine
from oodgate.quarantine.record import Record
from oodgate.settings import Settings


class Keeping:
    """A quarantine that takes images as they are judged, at no cost to their requests."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Raises QuarantineError where the quarantine cannot be opened."""
        self._accepted_share = settings.quarantine_accepted_share
        self._quarantine = Quarantine(
            _open(settings),
            Bounds(settings.quarantine_bytes, settings.quarantine_age_days),
            KeeperLimits(self._accepted_share),
            on_outcome=lambda outcome: metrics.quarantine[outcome].inc(),
        )
        self._quarantine.start()

    def offer(self, origin: Origin, verdict: Verdict, manifest: Manifest) -> None:
        """Keep the image's file if it has one, is of a kind that is kept, and there is a place for it."""
        if origin.file is None or (verdict.accepted and not self._accepted_share):
            return
        record = Record(
            time=time(),
            model=manifest.name,
            version=manifest.version,
            decision="accept" if verdict.accepted else "reject",
            score=verdict.score,
            p_value=verdict.p_value,
            predicted=manifest.classes[verdict.predicted],
            probability=float(verdict.probabilities[verdict.predicted]),
            request_id=origin.prediction_id,
            client=origin.client or "",
        )
        self._quarantine.offer(origin.file, record)

    def close(self) -> None:
        """Write what waits, as far as a few seconds allow."""
        self._quarantine.close()


def _open(settings: Settings) -> Archive:
    try:
        return open_archive(settings.quarantine, settings.state_dir, create=True)
    except QuarantineError:
        raise
    except Exception as error:  # the library of a remote place fails in its own ways
        raise QuarantineError(
            f"the quarantine {settings.quarantine} cannot be opened ({type(error).__name__}: {error}); check the place "
            "and the rights to it, or serve without"
        ) from error
