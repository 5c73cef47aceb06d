"""A verdict -> the document of one prediction; a gate -> the document of its model, and of its drift."""

from dataclasses import asdict

from oodgate.api.predictor import Judged, Predictor, decision
from oodgate.bundle import Manifest
from oodgate.gate import Gate
from oodgate.observability.drift_metrics import class_label

Document = dict[str, object]


def prediction(judged: Judged, gate: Gate, top_k: int, prediction_id: str) -> Document:
    """What the client reads about one image: the `top_k` most probable classes, the decision and why, the timing."""
    verdict, scorer = judged.verdict, gate.calibration.scorer
    best = verdict.ranking[:top_k].tolist()
    return {
        "id": prediction_id,
        "model": {"name": gate.manifest.name, "version": gate.manifest.version},
        "predictions": [_class(gate.manifest, index, float(verdict.probabilities[index])) for index in best],
        "decision": decision(verdict),
        "ood": {
            "scorer": scorer.name,
            "score": verdict.score,
            "threshold": gate.calibration.threshold,
            "p_value": verdict.p_value,
            "w": scorer.w,
            "terms": verdict.terms,
        },
        "timing_ms": {stage: round(ms, 3) for stage, ms in judged.timing_ms.items()},
    }


def description(gate: Gate) -> Document:
    """The model: classes, preprocessing, score, threshold and what it promises."""
    manifest, calibration = gate.manifest, gate.calibration
    document: Document = {
        "name": manifest.name,
        "version": manifest.version,
        "classes": manifest.classes,
        "preprocessing": manifest.preprocessing.model_dump(),
        "engine": manifest.engine,
        "notices": manifest.notices,
        "scorer": calibration.scorer.name,
        "w": calibration.scorer.w,
        "threshold": calibration.threshold,
        "temperature": calibration.temperature,
        "guarantee": calibration.guarantee.model_dump(),
        "device": str(gate.model.device),
        "precision": gate.model.precision,
        "measures": manifest.measures,
    }
    optional = {"class_ids": manifest.class_ids, "parents": manifest.parents}
    return document | {name: value for name, value in optional.items() if value}


def drift(predictor: Predictor) -> Document:
    """The evidence of drift and the alarms as they are now."""
    manifest, alarm = predictor.gate.manifest, predictor.drift.alarm
    classes = {class_label(index, manifest.classes): asdict(signal) for index, signal in alarm.classes().items()}
    return {
        "name": manifest.name,
        "version": manifest.version,
        "horizons": {name: asdict(signal) for name, signal in alarm.horizons().items()},
        "classes": classes,
        "uncounted": alarm.uncounted,
    }


def _class(manifest: Manifest, index: int, probability: float) -> Document:
    name = manifest.classes[index]
    document: Document = {"class": name, "index": index, "probability": probability}
    if manifest.class_ids:
        document["id"] = manifest.class_ids[index]
    if manifest.parents:
        document["parents"] = manifest.ancestors(name)
    return document
