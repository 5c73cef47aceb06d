"""OODGATE_* variables that no setting has: a mistyped one would otherwise be ignored in silence."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from oodgate.errors import SetupError
from oodgate.settings import Settings

PREFIX = "OODGATE_"
# Kubernetes gives every container the addresses of the services beside it, by their names.
_LINK_NAME = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://.*")


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Raise SetupError where a variable has the prefix of the settings and the name of none."""
    known = [name.upper() for name in Settings.model_fields]
    for name, value in environment.items():
        setting = name.upper().removeprefix(PREFIX)
        if not name.upper().startswith(PREFIX) or setting in known or _is_link(name, value):
            continue
        nearest = get_close_matches(setting, known, n=1)
        hint = (
            f"did you mean {PREFIX}{nearest[0]}?" if nearest else "`oodgate serve --help` lists those that there are;"
        )
        raise SetupError(f"there is no setting {name}, {hint} correct the variable or unset it")


def _is_link(name: str, value: str) -> bool:
    return bool(_LINK_NAME.fullmatch(name) or (name.endswith("_PORT") and _LINK_VALUE.fullmatch(value)))
