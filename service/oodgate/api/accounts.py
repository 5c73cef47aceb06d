"""What is written down of every request: its HTTP metrics and its line in the access log."""

from functools import cache

from starlette.types import Scope

from oodgate.errors import RequestError
from oodgate.observability.logs import request_log
from oodgate.observability.metrics import Metrics

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Accounts:
    """Every request opens one and closes it once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._count_of = cache(metrics.http_requests.labels)
        self._duration_of = cache(metrics.http_duration.labels)
        self._refused_for = cache(metrics.refused.labels)
        self._write = request_log()

    def open(self) -> None:
        """A request has come."""
        self._metrics.in_flight.inc()

    def refuse(self, error: RequestError) -> None:
        """A request gets a problem for an answer."""
        self._refused_for(error.code).inc()

    def close(self, scope: Scope, status: int, seconds: float, **facts: str) -> None:
        """A request has its answer; the `facts` go into its line in the log."""
        self._metrics.in_flight.dec()
        route = getattr(scope.get("route"), "path", "other")  # a path of strangers would be an unbounded label
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._count_of(route, method, str(status)).inc()
        self._duration_of(route).observe(seconds)
        duration_ms = round(1000 * seconds, 2)
        self._write(method=method, path=scope["path"], status=status, duration_ms=duration_ms, **facts)
