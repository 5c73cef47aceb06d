"""What kind of endpoint a path leads to, which decides who may ask for it, by which name and at which port."""

from collections.abc import Mapping
from re import Pattern

from fastapi.routing import APIRoute
from starlette.routing import compile_path

from oodgate.api import inference_v2, models, ops, predict
from oodgate.api.kinds import Kind

PAGES = ("/docs", "/redoc", "/openapi.json")
ROUTERS = (predict.router, models.router, inference_v2.router, ops.router)

_OTHER_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("healthz", "readyz", "v2_live", "v2_ready"), "probe"),
    **dict.fromkeys(("load_model", "unload_model", "reset_drift"), "admin"),
    "metrics": "metrics",
}


class Endpoints:
    """The kinds of all endpoints."""

    def __init__(self) -> None:
        routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
        kinds = [(route.path, route.path_regex, kind_of(str(route.operation_id))) for route in routes]
        kinds += [(path, compile_path(path)[0], "page") for path in PAGES]
        self._plain: dict[str, Kind] = {path: kind for path, _, kind in kinds if "{" not in path}
        # The framework's own patterns: a path that only they take for an endpoint's would go round every check.
        self._patterns: list[tuple[Pattern[str], Kind]] = [(pattern, kind) for _, pattern, kind in kinds]

    def kind(self, path: str) -> Kind | None:
        """The kind of endpoint at a path; None where there is none."""
        if found := self._plain.get(path):
            return found
        return next((kind for pattern, kind in self._patterns if pattern.match(path)), None)


def kind_of(operation: str) -> Kind:
    """The kind of an operation; what is not told apart here needs the right to predict."""
    return _OTHER_KINDS.get(operation, "predict")
