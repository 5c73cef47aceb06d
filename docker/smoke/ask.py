"""Questions to a running Prometheus and Alertmanager: `python3 ask.py fires OodgateDriftAlarm 120`.

Each answer is one line, and the exit status says whether it is the good one.
"""

# ruff: noqa: T201 - what it has to say goes to standard output

import sys
from collections.abc import Callable

from monitoring import (
    alert_states,
    alertmanager_knows,
    count_series,
    dashboard_queries,
    recorded,
    rules,
    series,
    wait_until,
)

UP = 'up{job="oodgate"}'
RESTARTED = 'changes(process_start_time_seconds{job="oodgate"}[1m]) > 0'
Answer = tuple[bool, str]


def rules_have_data() -> Answer:
    """Every rule is evaluated, and every recording rule has a series."""
    known = rules()
    recording = [rule for rule in known if rule["type"] == "recording"]
    failing = [f"{rule['name']}: {rule.get('lastError')}" for rule in known if rule["health"] != "ok"]
    empty = [query for query in map(recorded, recording) if not series(query)]
    counts = f"{len(recording) - len(empty)} of {len(recording)} recording rules have data"
    return not failing + empty, "; ".join([counts, f"{len(known) - len(recording)} alerts", *failing, *empty])


def panels_have_series(*lacking: str) -> Answer:
    """Every query of the dashboard parses and gives a series, unless it is of what the gate lacks: `METRIC=WHY`."""
    queries = dashboard_queries()
    empty = [(title, query) for title, query in queries if not count_series(query)]
    said = [f"{len(queries) - len(empty)} of {len(queries)} queries have data"]
    for metric, _, why in (entry.partition("=") for entry in lacking):
        excused = [entry for entry in empty if metric in entry[1] and count_series(entry[1]) is not None]
        empty = [entry for entry in empty if entry not in excused]
        said.append(f"{why}, so none for {', '.join(sorted({title for title, _ in excused}))}")
    return not empty, "; ".join([*said, *(f"{title}: {query}" for title, query in empty)])


def was_quiet(alert: str, minutes: str) -> Answer:
    """An alert was neither pending nor firing."""
    seen = series(f'count_over_time(ALERTS{{alertname="{alert}"}}[{minutes}m])')
    states = sorted(f"{found['metric']['alertstate']} in {found['value'][1]} evaluations" for found in seen)
    return not seen, f"{alert} in the last {minutes} minutes: {', '.join(states) or 'neither pending nor firing'}"


def fires(alert: str, seconds: str) -> Answer:
    """An alert was pending, fires, and Alertmanager has it."""
    pending = wait_until(lambda: alert_states(alert), float(seconds))
    if pending is None:
        return False, f"{alert} was not even pending within {seconds} s"
    firing = wait_until(lambda: "firing" in alert_states(alert), float(seconds) - pending)
    if firing is None:
        return False, f"{alert} pending after {pending:.0f} s, not firing within {seconds} s"
    told = wait_until(lambda: alertmanager_knows(alert), 30)
    line = f"{alert} pending after {pending:.0f} s, firing after {pending + firing:.0f} s"
    return told is not None, f"{line}, {'known' if told is not None else 'UNKNOWN'} to Alertmanager"


def outage(seconds: str) -> Answer:
    """The gate was down in Prometheus' eyes, and came up again as another process."""
    missed = wait_until(lambda: series(f"{UP} == 0"), float(seconds))
    if missed is None:
        return False, f"Prometheus missed nothing within {seconds} s"
    again = wait_until(lambda: series(f"{UP} == 1 and on (instance) ({RESTARTED})"), float(seconds))
    if again is None:
        return False, f"down after {missed:.0f} s, and not up within {seconds} s"
    return True, f"down after {missed:.0f} s, up {again:.0f} s later"


def value(query: str) -> Answer:
    """The value of the only series of a query."""
    found = series(query)
    return len(found) == 1, found[0]["value"][1] if len(found) == 1 else f"{len(found)} series: {query}"


def has(query: str, seconds: str) -> Answer:
    """A query gives a series, soon."""
    passed = wait_until(lambda: series(query), float(seconds))
    return passed is not None, f"{query}: " + ("never" if passed is None else f"after {passed:.0f} s")


QUESTIONS: dict[str, Callable[..., Answer]] = {
    "rules": rules_have_data,
    "panels": panels_have_series,
    "quiet": was_quiet,
    "fires": fires,
    "outage": outage,
    "value": value,
    "has": has,
}


if __name__ == "__main__":
    question, *arguments = sys.argv[1:]
    good, line = QUESTIONS[question](*arguments)
    print(line)
    sys.exit(not good)
