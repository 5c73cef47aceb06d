"""What a calibration says of itself: a record for machines and a page for people, kept in the bundle's report."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from oodgate.bundle import Bundle
from oodgate.offline.calibrate import Calibrated
from oodgate.offline.choice import BASELINE, areas
from oodgate.offline.prepare import Prepared

INVERTED = 50
"""AUROC in percent below which NAP takes a family for more in-distribution than the real images."""


def account_of(prepared: Prepared, calibrated: Calibrated, checked: Mapping[str, Any]) -> dict[str, Any]:
    """The calibration, both thresholds, the clamps, what was `checked`, and the evidence that chose scorer and w."""
    record = calibrated.bundle.calibration.model_dump(mode="json")
    record["thresholds"] = {kind: threshold.value for kind, threshold in calibrated.thresholds.items()}
    record["clamped_images"] = calibrated.terms.clamped(prepared.scorer.name)
    record["check"] = dict(checked)
    if calibrated.temperature:
        record["ece"] = {"before": calibrated.temperature.ece_before, "after": calibrated.temperature.ece_after}
    if prepared.choice and prepared.evidence:
        record["search"] = {
            "images": len(prepared.evidence.known),
            "reasons": list(prepared.choice.reasons),
            "nap_auroc": areas(prepared.evidence, "nap", None, prepared.bundle.state),
            "candidates": [
                {"scorer": row.scorer, "w": row.w, "typical_fpr95": row.typical, "fpr95": dict(row.fpr95)}
                for row in prepared.choice.candidates
            ],
        }
    return record


def with_evidence(bundle: Bundle, prepared: Prepared) -> Bundle:
    """The bundle with the AUROC of NAP, Energy and its own scorer on every family among its measures."""
    if not (prepared.evidence and prepared.evidence.families):
        return bundle
    own, evidence, state = prepared.scorer, prepared.evidence, prepared.bundle.state
    by_scorer = {name: areas(evidence, name, None, state) for name in ("nap", BASELINE)}
    by_scorer[own.name] = areas(evidence, own.name, own.w, state)
    families = {name: {scorer: row[name] for scorer, row in by_scorer.items()} for name in evidence.families}
    manifest = bundle.manifest.model_copy(update={"measures": {"families": families}})
    return replace(bundle, manifest=manifest)


def inverted_families(record: Mapping[str, Any]) -> list[str]:
    """The families that NAP takes for more in-distribution than the real images."""
    return [name for name, area in record.get("search", {}).get("nap_auroc", {}).items() if area < INVERTED]


def report_of(record: Mapping[str, Any]) -> dict[str, bytes]:
    """Files of the bundle's report: the record as JSON, and as a page."""
    return {"calibration.json": json.dumps(record, indent=1).encode(), "calibration.md": _page(record).encode()}


def _page(record: Mapping[str, Any]) -> str:
    scorer, guarantee = record["scorer"], record["guarantee"]
    lines = [
        "# Calibration",
        "",
        f"Scorer `{scorer['name']}`, w {scorer['w']}; threshold {record['threshold']:.6g} ({guarantee['kind']}: at "
        f"most {guarantee['alpha']:.0%} of in-distribution images are rejected), rank {guarantee['rank']} of "
        f"{guarantee['images']} calibration images, {record['clamped_images']} of them with a clamped score.",
        "",
    ]
    if "ece" in record:
        lines += [
            f"Probabilities at temperature {record['temperature']:.3f}: expected calibration error "
            f"{record['ece']['after']:.2f} %, without it {record['ece']['before']:.2f} %.",
            "",
        ]
    if record["check"]:
        lines += _check_lines(record)
    return "\n".join([*lines, *(_search_lines(record) if "search" in record else ())])


def _check_lines(record: Mapping[str, Any]) -> list[str]:
    scorers = list(next(iter(record["check"].values()))["measures"])
    rows = [
        f"| {name} | {row['images']} | {row['rejected']:.1f} | "
        + " | ".join(f"{row['measures'][scorer]['fpr95']:.1f}" for scorer in scorers)
        + " |"
        for name, row in record["check"].items()
    ]
    return [
        "## On real out-of-distribution images",
        "",
        "A check in percent, which had no part in the choice: the share rejected, and FPR95.",
        "",
        f"| set | images | rejected | {' | '.join(scorers)} |",
        "|---|" + "---:|" * (2 + len(scorers)),
        *rows,
        "",
    ]


def _search_lines(record: Mapping[str, Any]) -> list[str]:
    search = record["search"]
    names = [row["scorer"] if row["w"] is None else f"{row['scorer']}, w {row['w']:g}" for row in search["candidates"]]
    rows = [
        f"| {family} | {area:.1f} | " + " | ".join(f"{row['fpr95'][family]:.1f}" for row in search["candidates"]) + " |"
        for family, area in search["nap_auroc"].items()
    ]
    typical = " | ".join(f"{row['typical_fpr95']:.1f}" for row in search["candidates"])
    inverted = inverted_families(record)
    return [
        "## Why this scorer and this w",
        "",
        f"Judged on {search['images']} in-distribution images and what was made of them, FPR95 in percent:",
        "",
        *[f"- {reason}." for reason in search["reasons"]],
        *([f"- Warning: NAP is inverted (AUROC below {INVERTED} %) on {', '.join(inverted)}."] if inverted else []),
        "",
        f"| family | NAP's AUROC | {' | '.join(names)} |",
        "|---|" + "---:|" * (1 + len(names)),
        *rows,
        f"| **root mean square** | | {typical} |",
        "",
    ]
