"""What the OpenAPI page says of keys and names, where the operator asks for them."""

from typing import Any

from oodgate import errors
from oodgate.api.documentation import Problems, problems
from oodgate.api.endpoints import kind_of
from oodgate.api_keys import SCOPES

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key that the operator gave out"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same key"},
}


def with_access(document: dict[str, Any], keyed: bool, named: bool) -> dict[str, Any]:
    """The OpenAPI document with the key that each operation needs, if `keyed`, and the refusal of hosts, if `named`."""
    if keyed:
        document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            kind = kind_of(operation["operationId"])
            if keyed and kind in SCOPES:
                operation["security"] = [{scheme: [kind]} for scheme in _SCHEMES]
                _add_problems(operation, path, (errors.Unauthorized, errors.Forbidden))
            if named and kind != "probe":
                _add_problems(operation, path, (errors.HostRefused,))
    return document


def _add_problems(operation: dict[str, Any], path: str, kinds: Problems) -> None:
    for status, answer in problems(*kinds).items():
        if path.startswith("/v2"):
            answer["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
        known = operation["responses"].setdefault(str(status), answer)
        if answer["description"] not in known["description"]:  # the framework hands out one document many times
            known["description"] += f"; {answer['description']}"
