"""Rules, alerts and dashboard: held to the metrics of the service, to the runbook and to Prometheus' own checks."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from conftest import ROOT, StartServer

DOCKER = ROOT / "docker"
RULES = sorted((DOCKER / "prometheus" / "rules").glob("*.yml"))
RUNBOOK = (DOCKER / "RUNBOOK.md").read_text()
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "oodgate.json").read_text())


def rules() -> Iterator[dict[str, Any]]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of Prometheus; skips where it is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True)


def test_prometheus_accepts_its_configuration_and_the_rules() -> None:
    checked = tool("promtool", "check", "config", DOCKER / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", sorted((DOCKER / "prometheus" / "tests").glob("*.yml")), ids=lambda file: file.stem)
def test_the_alerts_fire_when_they_should(file: Path) -> None:
    checked = tool("promtool", "test", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_fires_in_some_test_of_the_rules() -> None:
    tests = "".join(file.read_text() for file in (DOCKER / "prometheus" / "tests").glob("*.yml"))
    assert {name for name in ALERTS if f'alertname="{name}"' in tests} == set(ALERTS)


def test_alertmanager_accepts_its_configuration() -> None:
    checked = tool("amtool", "check-config", DOCKER / "alertmanager" / "alertmanager.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_says_what_it_means_and_leads_to_its_section_of_the_runbook() -> None:
    sections = {f"docker/RUNBOOK.md#{title.lower()}" for title in re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)}
    for name, alert in ALERTS.items():
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert alert["annotations"]["runbook_url"] == f"docker/RUNBOOK.md#{name.lower()}"
        assert alert["labels"].keys() >= {"service", "severity"}, name
    assert sections == {alert["annotations"]["runbook_url"] for alert in ALERTS.values()}
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {section.partition("#")[2] for section in sections}


def test_no_rule_of_inhibition_names_an_alert_that_is_not_there() -> None:
    names = re.findall(r"Oodgate\w+", (DOCKER / "alertmanager" / "alertmanager.yml").read_text())
    assert set(names) <= set(ALERTS)


def queries() -> list[str]:
    """Every expression of the rules and of the dashboard."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    annotations = [entry["expr"] for entry in DASHBOARD["annotations"]["list"]]
    variables = [entry["query"] for entry in DASHBOARD["templating"]["list"]]
    return [*(rule["expr"] for rule in rules()), *panels, *annotations, *variables]


def exposed(text: str) -> set[str]:
    """The names of the series that a page of metrics declares."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}{end}" for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    return names


def test_every_metric_that_is_asked_for_is_one_of_the_service(start_server: StartServer) -> None:
    asked = set(re.findall(r"\b(?:oodgate|process)_\w+", " ".join(queries())))
    found = exposed(httpx.get(f"{start_server().url}/metrics").text)
    # These are exposed where there is a GPU.
    gpu = {name for name in asked if name.startswith("oodgate_gpu_")}
    sources = "".join(file.read_text() for file in (ROOT / "service" / "oodgate" / "observability").glob("*.py"))
    assert asked - gpu <= found, sorted(asked - gpu - found)
    assert [name for name in sorted(gpu) if name.removeprefix("oodgate_") not in sources] == []


def test_every_recorded_series_that_is_asked_for_is_recorded() -> None:
    assert set(re.findall(r"\boodgate:[\w:]+", " ".join(queries()))) <= RECORDED
