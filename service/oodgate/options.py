"""What the commands take: shared options, one option for each setting, and the forms of their values."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo

from oodgate.settings import Device, Settings
from oodgate.variables import refuse_unknown

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
CacheOption = Annotated[
    Path | None, typer.Option(help="Folder that remembers forwards, to go on after an interruption.")
]
TrustedOption = Annotated[
    Path | None,
    typer.Option(
        "--trusted",
        metavar="FILE|FOLDER",
        help="Public key, or folder of them; refuse a bundle that none of them signed.",
        envvar="OODGATE_TRUSTED_KEYS",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]

_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def options_of_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**options` one option for each setting, with the setting's help and variable."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                (str if is_measured(field) else field.annotation) | None,  # type: ignore[operator]
                typer.Option(help=_help(name, field)),
            ],
        )
        for name, field in Settings.model_fields.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _help(name: str, field: FieldInfo) -> str:
    facts = [f"env: OODGATE_{name.upper()}", *_ranges(field), *_defaults(field)]
    # Rich takes a bare bracket for markup.
    return " ".join([field.description or "", *(rf"\[{fact}]" for fact in facts)])


def _ranges(field: FieldInfo) -> Iterator[str]:
    limits = ((word, getattr(entry, kind, None)) for entry in field.metadata for kind, word in _LIMITS.items())
    if words := ", ".join(f"{word} {limit}" for word, limit in limits if limit is not None):
        yield f"range: {words}"


def _defaults(field: FieldInfo) -> Iterator[str]:
    default = "auto" if is_measured(field) else field.default
    if default not in (None, "", (), []):
        yield f"default: {default}"


def is_measured(field: FieldInfo) -> bool:
    """Whether the setting takes "auto" beside a number."""
    return any(isinstance(entry, BeforeValidator) for entry in field.metadata)


def read_settings(options: dict[str, Any]) -> Settings:
    """Settings from the options that were given and the environment.

    Raises a usage error that names the wrong one, or SetupError where a variable is no setting's.
    """
    refuse_unknown(os.environ)
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        hint = f"--{name.replace('_', '-')} / OODGATE_{name.upper()}"
        raise typer.BadParameter(first["msg"], param_hint=hint) from error


def parse_w(text: str) -> float | None:
    """A number from 0 to 1, or None for "search"."""
    if text == "search":
        return None
    try:
        w = float(text)
    except ValueError:
        w = -1.0
    if not 0 <= w <= 1:
        raise typer.BadParameter(f"'{text}' is neither a number from 0 to 1 nor search", param_hint="--w")
    return w


def parse_setting(entry: str) -> tuple[str, float]:
    """NAME=VALUE, a number."""
    name, _, value = entry.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise typer.BadParameter(f"'{entry}' is not NAME=NUMBER", param_hint="--set") from error


def parse_sets(entries: Iterable[str]) -> dict[str, Path]:
    """Folders by name, each entry NAME=FOLDER."""
    folders: dict[str, Path] = {}
    for name, folder in map(_parse_set, entries):
        if name in folders:
            raise typer.BadParameter(f"two sets are called '{name}', give each its name", param_hint="--ood")
        folders[name] = folder
    return folders


def _parse_set(entry: str) -> tuple[str, Path]:
    name, separator, folder = entry.partition("=")
    if not (name and separator and folder):
        raise typer.BadParameter(f"'{entry}' is not NAME=FOLDER", param_hint="--ood")
    if name in ("id", "mean"):
        raise typer.BadParameter(
            f"'{name}' has another meaning in the results, choose another name", param_hint="--ood"
        )
    return name, Path(folder)
