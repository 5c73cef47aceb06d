"""The dashboard of the service: `python docker/grafana/dashboard.py` writes it as the JSON that Grafana reads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).parent / "dashboards" / "oodgate.json"
RUNBOOK = Path(__file__).parent.parent / "RUNBOOK.md"
RUNBOOK_PANEL = 100
SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
MODEL = 'model=~"$model", version=~"$version", instance=~"$instance"'
RECORDED_OF = '{model=~"$model", version=~"$version"}'
INSTANCE = 'instance=~"$instance"'
PREDICTING = f'route=~".*/(predict|predict/batch|infer)", {INSTANCE}'
Kind = Literal["lines", "stat", "heatmap", "table"]
PANELS: dict[Kind, Any] = {
    "lines": timeseries.Panel,
    "stat": stat.Panel,
    "heatmap": heatmap.Panel,
    "table": table.Panel,
}


@dataclass(frozen=True)
class View:
    """One panel: legend -> query, drawn as `kind`; `unit` is one of Grafana's."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Kind = "lines"
    width: int = 8  # of 24
    about: str = ""
    largest: float | None = None
    alarm_at: float | None = None


def rate(metric: str, by: str, labels: str = MODEL) -> str:
    """The rate of a counter, summed."""
    return f"sum by ({by}) (rate(oodgate_{metric}{{{labels}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "model, version", labels: str = MODEL) -> str:
    """A quantile of what a histogram saw."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'{by}, le', labels)})"


def latest(metric: str, how: str = "max", by: str = "model, version", labels: str = MODEL) -> str:
    """A gauge over the instances."""
    return f"{how} by ({by}) (oodgate_{metric}{{{labels}}})"


REJECTED = f'{MODEL}, decision="reject"'
DECIDED = rate("predictions_total", "model, version")
# A model that never rejected has no series of rejections.
OOD_RATIO = f"({rate('predictions_total', 'model, version', REJECTED)} or 0 * {DECIDED}) / {DECIDED}"
FORWARDS = rate("batch_size_count", "model, version")
NAMED = "{{model}} {{version}}"

ROWS: dict[str, list[View]] = {
    "Decisions": [
        View("OOD ratio now", {NAMED: OOD_RATIO}, "percentunit", "stat", 4, "Share of the images that are rejected."),
        View(
            "Calibrated share",
            {NAMED: latest("ood_alpha")},
            "percentunit",
            "stat",
            4,
            "Share of images like those of the calibration that the threshold may reject.",
        ),
        View(
            "OOD ratio against calibrated",
            {f"{NAMED} rejected": OOD_RATIO, f"{NAMED} calibrated": latest("ood_alpha")},
            "percentunit",
            width=8,
            largest=1,
        ),
        View(
            "Accepted and rejected",
            {f"{NAMED} {{{{decision}}}}": rate("predictions_total", "model, version, decision")},
            "reqps",
        ),
        View(
            "Rejected by predicted class",
            {"{{class}}": rate("class_predictions_total", "class", REJECTED)},
            "reqps",
            width=12,
            about="What the network takes the rejected images for.",
        ),
        View("All by predicted class", {"{{class}}": rate("class_predictions_total", "class")}, "reqps", width=12),
    ],
    "Scores": [
        View(
            "p-values",
            {"{{le}}": f"sum by (le) (increase(oodgate_ood_p_value_bucket{{{MODEL}}}[$__rate_interval]))"},
            kind="heatmap",
            about="Images like those of the calibration fill [0, 1] evenly; the buckets below 0.1 are narrower.",
        ),
        View(
            "p-value quantiles",
            {str(share): quantile(share, "ood_p_value") for share in (0.1, 0.25, 0.5, 0.75, 0.9)},
            about="Calibrated, each line lies at the share that it is named after.",
            largest=1,
        ),
        View(
            "Score against threshold",
            {f"{share} of images": quantile(share, "ood_score") for share in (0.05, 0.5, 0.95)}
            | {"threshold": latest("ood_threshold")},
            about="Higher means more in-distribution. The line 0.05 meets the threshold where 5 % are rejected.",
        ),
        View(
            "Shift of the p-values (PSI, 30 minutes)",
            {NAMED: f"oodgate:ood_p_value_psi:rate30m{RECORDED_OF}"},
            alarm_at=0.25,
        ),
        View(
            "Kind of drift",
            {
                f"{NAMED} far among the excess": f"oodgate:ood_p_value_far_share:rate10m{RECORDED_OF}",
                f"{NAMED} upper half of the rest": f"oodgate:ood_p_value_upper_share:rate10m{RECORDED_OF}",
            },
            "percentunit",
            about="Above 80 % far: noise. Below 40 % in the upper half: all images have changed. Neither: a new kind.",
            largest=1.2,
        ),
        View("Clamped scores", {NAMED: rate("ood_clamped_total", "model, version")}, "reqps"),
    ],
    "Drift": [
        View(
            "Evidence (log10)",
            {f"{NAMED} {{{{horizon}}}}": latest("drift_evidence", by="model, version, horizon")},
            width=12,
            about="2 means odds of 100 against what the threshold was calibrated for.",
        ),
        View(
            "Alarm",
            {f"{NAMED} {{{{horizon}}}}": latest("drift_alarm", by="model, version, horizon")},
            width=6,
            largest=1,
        ),
        View("Alarm by class", {"{{class}}": latest("class_drift_alarm", by="class")}, width=6, largest=1),
    ],
    "Traffic and latency": [
        View("Requests", {"{{status}}": rate("http_requests_total", "status", PREDICTING)}, "reqps"),
        View(
            "Time of a request",
            {
                str(share): quantile(share, "http_request_duration_seconds", "job", PREDICTING)
                for share in (0.5, 0.95, 0.99)
            },
            "s",
        ),
        View(
            "Time of a stage, 95 %",
            {"{{stage}}": quantile(0.95, "stage_duration_seconds", "stage", INSTANCE)},
            "s",
        ),
        View("In flight", {"{{instance}}": latest("in_flight", by="instance", labels=INSTANCE)}, width=12),
        View("Refused", {"{{reason}}": rate("refused_total", "reason", INSTANCE)}, "reqps", width=12),
    ],
    "Batching": [
        View(
            "Images in a forward",
            {
                f"{NAMED} mean": f"{rate('batch_size_sum', 'model, version')} / {FORWARDS}",
                f"{NAMED} 95 %": quantile(0.95, "batch_size"),
            },
        ),
        View(
            "Queue",
            {f"{NAMED} waiting": latest("queue_depth"), f"{NAMED} limit": latest("queue_limit", "min")},
        ),
        View("Worker up", {NAMED: latest("worker_up", "min", "instance, model, version")}, largest=1),
    ],
    "Device": [
        View(
            "CPU",
            {"{{instance}}": f'rate(process_cpu_seconds_total{{job="oodgate", {INSTANCE}}}[$__rate_interval])'},
            width=6,
            about="Cores in use.",
        ),
        View(
            "Memory", {"{{instance}}": f'process_resident_memory_bytes{{job="oodgate", {INSTANCE}}}'}, "bytes", width=6
        ),
        View("GPU", {"{{gpu}}": f"oodgate_gpu_utilisation_ratio{{{INSTANCE}}}"}, "percentunit", width=6, largest=1),
        View(
            "GPU memory",
            {
                "{{gpu}} used": f"oodgate_gpu_memory_used_bytes{{{INSTANCE}}}",
                "{{gpu}} total": f"oodgate_gpu_memory_total_bytes{{{INSTANCE}}}",
            },
            "bytes",
            width=6,
        ),
    ],
    "Model": [View("Models that are served", {"": f"oodgate_model_info{{{MODEL}}}"}, kind="table", width=24)],
}


def build_dashboard() -> models.Dashboard:
    """The dashboard with all its rows."""
    board = (
        builders.Dashboard("oodgate")
        .uid("oodgate")
        .description("Decisions, scores, drift and the state of the service.")
        .tags(["oodgate"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Runbook")
            .type(models.DashboardLinkType.LINK)
            .icon("doc")
            .url(f"/d/oodgate/oodgate?viewPanel={RUNBOOK_PANEL}")
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .annotation(annotation("Alerts", 'ALERTS{service="oodgate", alertstate="firing"}', "red"))
        .annotation(annotation("Drift alarm", f"changes(oodgate_drift_alarm{{{MODEL}}}[$__interval]) > 0", "orange"))
    )
    board = (
        board.with_variable(variable("model", "label_values(oodgate_model_info, model)"))
        .with_variable(variable("version", 'label_values(oodgate_model_info{model=~"$model"}, version)'))
        .with_variable(variable("instance", 'label_values(up{job="oodgate"}, instance)'))
    )
    number = 0
    for row, (title, views) in enumerate(ROWS.items(), RUNBOOK_PANEL + 1):
        board = board.with_row(builders.Row(title).id(row))
        for view in views:
            number += 1
            board = board.with_panel(panel(view, number))
    runbook = text.Panel().id(RUNBOOK_PANEL).title("Runbook").content(RUNBOOK.read_text()).span(24).height(24)
    return board.with_row(builders.Row("Runbook").id(RUNBOOK_PANEL + len(ROWS) + 1)).with_panel(runbook).build()


def panel(view: View, number: int) -> Builder[models.Panel]:
    """The panel that shows a view."""
    shown: Any = PANELS[view.kind]().id(number).title(view.title).description(view.about).unit(view.unit)
    shown = shown.datasource(SOURCE).span(view.width).height(8)
    for position, (legend, expression) in enumerate(view.queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + position))
        if view.kind == "heatmap":
            query = query.format(PromQueryFormat.HEATMAP)
        if view.kind == "table":
            query = query.format(PromQueryFormat.TABLE).instant()
        shown = shown.with_target(query)
    if view.kind == "lines":
        shown = shown.min(0) if view.unit != "short" or view.largest else shown
        shown = shown.max(view.largest) if view.largest else shown
    if view.kind == "heatmap":
        shown = shown.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    if view.kind == "table":
        hidden = dict.fromkeys(("Time", "Value", "__name__", "job"), True)
        shown = shown.with_transformation(
            models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
        )
    if view.alarm_at is not None:
        steps = [models.Threshold(color="green"), models.Threshold(view.alarm_at, "red")]
        shown = shown.thresholds(builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    built: Builder[models.Panel] = shown
    return built


def variable(name: str, query: str) -> builders.QueryVariable:
    """A choice of several label values, all of them at first."""
    return (
        builders.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def annotation(name: str, expression: str, colour: str) -> builders.AnnotationQuery:
    """Marks on every panel where the expression has a value."""
    return builders.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expression)


def rendered() -> str:
    """The text of the JSON file."""
    return json.dumps(build_dashboard(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(rendered())
