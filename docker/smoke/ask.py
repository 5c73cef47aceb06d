"""Questions to a running Prometheus and Alertmanager; the exit status is the answer.

Nothing but the standard library.
"""

# ruff: noqa: T201 - what it has to say goes to standard output

import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent.parent / "grafana" / "dashboards" / "oodgate.json"
VARIABLES = {"$model": ".*", "$version": ".*", "$instance": ".*", "$__rate_interval": "1m", "$__interval": "15s"}
PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"


def get(url: str, **parameters: str) -> Any:
    """The JSON document at an address."""
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def series(query: str) -> list[Any]:
    """The series that a query gives now."""
    result: list[Any] = get(f"{PROMETHEUS}/api/v1/query", query=query)["data"]["result"]
    return result


def alert_states(name: str) -> set[str]:
    """pending, firing, both or neither."""
    return {
        alert["state"]
        for alert in get(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
        if alert["labels"]["alertname"] == name
    }


def rules_without_data() -> list[str]:
    """Recording rules that fail or have no series."""
    groups = get(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    failing = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    names = {rule["name"] for rule in rules if rule["type"] == "recording"}
    print(f"{len(rules)} rules, {len(names)} recorded names")
    return failing + sorted(name for name in names if not series(name))


def dashboard_queries(dashboard: Path = DASHBOARD) -> list[tuple[str, str]]:
    """Panel titles and queries, with every variable at "all"."""
    queries = []
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            queries.append((panel["title"], query))
    return queries


def queries_without_series() -> list[str]:
    """Queries of the dashboard that Prometheus refuses or answers with nothing; without a GPU, those are left out."""
    has_gpu = bool(series("oodgate_gpu_memory_total_bytes"))
    empty = []
    queries = [entry for entry in dashboard_queries() if has_gpu or "oodgate_gpu_" not in entry[1]]
    for title, query in queries:
        try:
            found = series(query)
        except urllib.error.HTTPError as error:
            empty.append(f"{title}: {query}: {error.read().decode()}")
            continue
        if not found:
            empty.append(f"{title}: {query}")
    print(f"{len(queries)} queries of the dashboard")
    return empty


def wait_for_alert(name: str, seconds: float) -> list[str]:
    """Wait until an alert was pending and fires, and Alertmanager has it."""
    start = time.monotonic()
    seen: dict[str, float] = {}
    while time.monotonic() - start < seconds:
        for state in alert_states(name):
            seen.setdefault(state, round(time.monotonic() - start))
        if "firing" in seen:
            print(f"{name}: " + ", ".join(f"{state} after {at} s" for state, at in seen.items()))
            return told_alertmanager(name)
        time.sleep(1)
    return [f"{name} did not fire within {seconds:g} s; seen: {seen}"]


def told_alertmanager(name: str) -> list[str]:
    """Wait a little until Alertmanager knows the alert."""
    for _ in range(30):
        if any(alert["labels"]["alertname"] == name for alert in get(f"{ALERTMANAGER}/api/v2/alerts")):
            return []
        time.sleep(1)
    return [f"Alertmanager does not know {name}"]


def is_quiet(name: str) -> list[str]:
    """Whether an alert is neither pending nor firing."""
    return [f"{name} is {state}" for state in alert_states(name)]


def wait_for_series(query: str, seconds: float) -> list[str]:
    """Wait until a query gives a series."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if series(query):
            print(f"{query}: after {time.monotonic() - start:.0f} s")
            return []
        time.sleep(1)
    return [f"nothing within {seconds:g} s: {query}"]


def main() -> None:
    """Ask one question; say what is wrong and exit with status 1, or exit with status 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    asked = parser.add_subparsers(dest="question", required=True)
    asked.add_parser("rules").set_defaults(ask=lambda _: rules_without_data())
    asked.add_parser("dashboard").set_defaults(ask=lambda _: queries_without_series())
    quiet = asked.add_parser("quiet")
    quiet.add_argument("alert")
    quiet.set_defaults(ask=lambda options: is_quiet(options.alert))
    fires = asked.add_parser("fires")
    fires.add_argument("alert")
    fires.add_argument("--within", type=float, required=True)
    fires.set_defaults(ask=lambda options: wait_for_alert(options.alert, options.within))
    has = asked.add_parser("has")
    has.add_argument("query")
    has.add_argument("--within", type=float, required=True)
    has.set_defaults(ask=lambda options: wait_for_series(options.query, options.within))
    options = parser.parse_args()
    wrong = options.ask(options)
    for line in wrong:
        print(f"WRONG {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
