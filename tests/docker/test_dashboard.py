import json
import runpy
from typing import Any

import pytest

from conftest import ROOT

pytest.importorskip("grafana_foundation_sdk")

GRAFANA = ROOT / "docker" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "oodgate.json").read_text())


def test_the_dashboard_is_the_one_that_its_code_and_the_runbook_make() -> None:
    rendered = runpy.run_path(str(GRAFANA / "dashboard.py"))["rendered"]()
    current = (GRAFANA / "dashboards" / "oodgate.json").read_text() == rendered
    assert current, "run docker/grafana/dashboard.py"


def test_every_panel_has_an_id_of_its_own_and_a_place_of_its_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_query_follows_the_variable_of_the_data_source_and_asks_for_no_exemplars() -> None:
    for panel in DASHBOARD["panels"]:
        if panel["type"] not in ("row", "text"):
            assert panel["datasource"]["uid"] == "$datasource"
        assert not any(target.get("exemplar") for target in panel.get("targets", []))


def test_model_version_instance_and_data_source_can_be_chosen() -> None:
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "model", "version", "instance"]


def test_the_link_to_the_runbook_opens_the_panel_that_shows_it() -> None:
    [link] = DASHBOARD["links"]
    [shown] = [panel for panel in DASHBOARD["panels"] if link["url"].endswith(f"viewPanel={panel['id']}")]
    assert shown["options"]["content"] == (ROOT / "docker" / "RUNBOOK.md").read_text()
