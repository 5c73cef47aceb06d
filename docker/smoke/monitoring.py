"""What a running Prometheus and Alertmanager know; nothing but the standard library."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
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


def count_series(query: str) -> int | None:
    """How many series a query gives now; None where Prometheus refuses it."""
    try:
        return len(series(query))
    except urllib.error.HTTPError:
        return None


def alert_states(name: str) -> set[str]:
    """pending, firing, both or neither."""
    alerts = get(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
    return {alert["state"] for alert in alerts if alert["labels"]["alertname"] == name}


def alertmanager_knows(name: str) -> bool:
    """Whether the alert has arrived where it is sent on from."""
    return any(alert["labels"]["alertname"] == name for alert in get(f"{ALERTMANAGER}/api/v2/alerts"))


def rules() -> list[dict[str, Any]]:
    """Every rule that Prometheus evaluates."""
    groups = get(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded(rule: dict[str, Any]) -> str:
    """The query for what a recording rule writes."""
    labels = ", ".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
    return f"{rule['name']}{{{labels}}}"


def dashboard_queries() -> list[tuple[str, str]]:
    """Panel titles and queries, with every variable at "all"."""
    queries = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            queries.append((panel["title"], query))
    return queries


def wait_until(happened: Callable[[], Any], seconds: float) -> float | None:
    """The seconds until something is so; None where it is not in time."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        if happened():
            return passed
        time.sleep(0.5)
    return None
