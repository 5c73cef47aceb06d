"""Which models there are, what each of them is, and what changes them while the service runs."""

from fastapi import APIRouter

from oodgate.api import render
from oodgate.api.documentation import NAMED_MODEL_PROBLEMS, NOT_SERVED, RELOAD_PROBLEMS, RESET_PROBLEMS, problems
from oodgate.api.entry import Entry
from oodgate.api.render import Document
from oodgate.api.repository import Models
from oodgate.api.schemas import DriftStatus, ModelDescription, ModelList, ModelStatus
from oodgate.errors import LoadFailed

router = APIRouter(tags=["models"])


@router.get("/v1/models", operation_id="models", response_model=ModelList)
async def list_models(models: Models) -> Document:
    """Every model by name, whether it answers, and if not, why."""
    return {"models": [status(entry, models) for entry in models.entries]}


@router.get(
    "/v1/model",
    operation_id="model",
    response_model=ModelDescription,
    response_model_exclude_unset=True,
    responses=problems(*NOT_SERVED),
)
async def describe_default(models: Models) -> Document:
    """The default model: classes, preprocessing, score, threshold and what it promises."""
    return render.description(models.predictor(models.default).gate)


@router.get(
    "/v1/models/{name}",
    operation_id="describe_model",
    response_model=ModelDescription,
    response_model_exclude_unset=True,
    responses=problems(*NOT_SERVED, *NAMED_MODEL_PROBLEMS),
)
async def describe_model(models: Models, name: str) -> Document:
    """The model of this name: classes, preprocessing, score, threshold and what it promises."""
    return render.description(models.predictor(name).gate)


@router.post(
    "/v1/models/{name}/load",
    operation_id="load_model",
    response_model=ModelStatus,
    responses=problems(*RELOAD_PROBLEMS, LoadFailed),
)
async def load_model(models: Models, name: str) -> Document:
    """Serve what lies in the model's folder now; answers when the version that it replaces has ended.

    A bundle that is not fit to be served changes nothing.
    """
    return status(await models.load(name), models)


@router.post(
    "/v1/models/{name}/unload",
    operation_id="unload_model",
    response_model=ModelStatus,
    responses=problems(*RELOAD_PROBLEMS),
)
async def unload_model(models: Models, name: str) -> Document:
    """Stop serving a model; answers when what was accepted for it is answered and its memory is free."""
    return status(await models.unload(name), models)


@router.post(
    "/v1/models/{name}/drift/reset",
    operation_id="reset_drift",
    response_model=DriftStatus,
    responses=problems(*RESET_PROBLEMS),
)
async def reset_drift(models: Models, name: str) -> Document:
    """Forget the model's evidence of drift and end its alarms: when the cause is gone, and not before."""
    return render.drift(await models.reset_drift(name))


def status(entry: Entry, models: Models) -> Document:
    """One line of the list."""
    return {
        "name": entry.name,
        "version": entry.version,
        "state": entry.state,
        "default": entry.name == models.default,
        "reason": entry.reason,
    }
