"""Counts of fronts arrive in the metrics of the service."""

import asyncio

import pytest

from oodgate.api.app import create_metrics
from oodgate.fronts.messages import Counted, read_report
from oodgate.fronts.reports import Account, ReportedMetrics, Reports
from oodgate.fronts.wire import Kind
from oodgate.observability.metrics import Metrics

ROUTE = "/v1/predict"


@pytest.fixture
def metrics() -> Metrics:
    return create_metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"oodgate_{name}", labels)


class Wire:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.reports: list[list[Counted]] = []

    def send(self, kind: Kind, exchange: int = 0, *parts: bytes) -> None:
        assert (kind, exchange) == (Kind.REPORT, 0)
        self.reports.append(read_report(b"".join(parts)))


def test_many_requests_are_told_at_once_and_counted_one_by_one(metrics: Metrics) -> None:
    wire = Wire()

    async def count() -> None:
        reported = ReportedMetrics(Reports(wire))  # type: ignore[arg-type]
        for seconds in (0.1, 0.2, 0.3):
            reported.in_flight.inc()
            reported.http_requests.labels(ROUTE, "POST", "200").inc()
            reported.http_duration.labels(ROUTE).observe(seconds)
            reported.in_flight.dec()
        reported.refused.labels("queue_full").inc()
        await asyncio.sleep(0.1)

    asyncio.run(count())
    (report,) = wire.reports
    account = Account(metrics)
    account.take(report)
    assert value(metrics, "http_requests_total", route=ROUTE, method="POST", status="200") == 3
    assert value(metrics, "http_request_duration_seconds_sum", route=ROUTE) == pytest.approx(0.6)
    assert value(metrics, "refused_total", reason="queue_full") == 1
    assert value(metrics, "in_flight") == 0


def test_what_a_front_had_in_flight_ends_with_it(metrics: Metrics) -> None:
    gone, other = Account(metrics), Account(metrics)
    gone.take([Counted("in_flight", (), 3, [])])
    other.take([Counted("in_flight", (), 2, [])])
    gone.close()
    assert value(metrics, "in_flight") == 2


@pytest.mark.parametrize("counted", [("http_requests", ("a", "b", "c"), -1.0, []), ("refused", ("a", "b"), 1.0, [])])
def test_what_no_front_counts_raises_value_error(metrics: Metrics, counted: tuple[object, ...]) -> None:
    with pytest.raises(ValueError):  # said by the metrics' library
        Account(metrics).take([Counted(*counted)])  # type: ignore[arg-type]
