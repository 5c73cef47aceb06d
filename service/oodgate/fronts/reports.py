"""What a front counts, on its way to the metrics of the service.

The device process alone has metrics: a front that dies takes no count with it but that of its last milliseconds, none
ever goes backwards, and a scrape asks nobody else.
"""

import asyncio
from collections import Counter, defaultdict
from typing import Literal

from oodgate.fronts.link import Link
from oodgate.fronts.messages import Counted, pack_report
from oodgate.fronts.wire import Kind
from oodgate.observability.metrics import Metrics

_EVERY_S = 0.01  # so that the device process hears of many requests at once

Name = Literal["http_requests", "http_duration", "refused", "in_flight"]
_Key = tuple[Name, tuple[str, ...]]


class Reports:
    """Counts of a front that the device process has not heard of."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._amounts: Counter[_Key] = Counter()
        self._observed: defaultdict[_Key, list[float]] = defaultdict(list)
        self._waits = False

    def add(self, key: _Key, amount: int) -> None:
        """Take in a difference."""
        self._amounts[key] += amount
        self._send_soon()

    def observe(self, key: _Key, value: float) -> None:
        """Take in a duration."""
        self._observed[key].append(value)
        self._send_soon()

    def send(self) -> None:
        """Tell all of it now."""
        keys = dict.fromkeys((*self._amounts, *self._observed))
        counted = [Counted(*key, self._amounts[key], self._observed.get(key, [])) for key in keys]
        self._amounts.clear()
        self._observed.clear()
        self._waits = False
        if counted:
            self._link.send(Kind.REPORT, 0, pack_report(counted))

    def _send_soon(self) -> None:
        if not self._waits:
            self._waits = True
            asyncio.get_running_loop().call_later(_EVERY_S, self.send)


class Reported:
    """Stands for a metric of the device process."""

    def __init__(self, reports: Reports, name: Name, labels: tuple[str, ...] = ()) -> None:
        self._reports = reports
        self._key: _Key = (name, labels)

    def labels(self, *values: str) -> "Reported":
        """The series with these labels."""
        return Reported(self._reports, self._key[0], values)

    def inc(self, amount: int = 1) -> None:
        """Count."""
        self._reports.add(self._key, amount)

    def dec(self, amount: int = 1) -> None:
        """Count down."""
        self._reports.add(self._key, -amount)

    def observe(self, value: float) -> None:
        """Count with a duration."""
        self._reports.observe(self._key, value)


class ReportedMetrics:
    """What stands for the metrics of the service in a front: those that a request of a front has."""

    def __init__(self, reports: Reports) -> None:
        self.http_requests = Reported(reports, "http_requests")
        self.http_duration = Reported(reports, "http_duration")
        self.refused = Reported(reports, "refused")
        self.in_flight = Reported(reports, "in_flight")


class Account:
    """Counts in the metrics what one front reports; what it had in flight ends with it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_flight = 0.0

    def take(self, counted: list[Counted]) -> None:
        """Count; raises ValueError where a counter would go backwards, or has other labels."""
        for one in counted:
            if one.metric == "http_requests":
                self._metrics.http_requests.labels(*one.labels).inc(one.amount)
            elif one.metric == "refused":
                self._metrics.refused.labels(*one.labels).inc(one.amount)
            elif one.metric == "in_flight":
                self._add_in_flight(one.amount)
            else:
                histogram = self._metrics.http_duration.labels(*one.labels)
                for value in one.observed:
                    histogram.observe(value)

    def close(self) -> None:
        """The front is gone."""
        self._add_in_flight(-self._in_flight)

    def _add_in_flight(self, amount: float) -> None:
        self._in_flight += amount
        self._metrics.in_flight.inc(amount)
