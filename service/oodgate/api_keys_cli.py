"""The command for the keys of clients."""

from pathlib import Path
from typing import Annotated

import typer

from oodgate.api_keys import SCOPES, add_line, line_of, make_key
from oodgate.console import err, out

app = typer.Typer()


@app.command("key")
def new_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; two keys may have one name.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="|".join(SCOPES), help="What the key opens; repeatable, predict if not given."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", envvar="OODGATE_API_KEYS", help="File of keys to add it to.")
    ] = None,
) -> None:
    """Make a key for a client and print it, this once; only its hash is kept, in the file or the line that follows."""
    key = make_key()
    line = line_of(name, scopes or ["predict"], key)
    if file:
        add_line(file, line)
        err.print(f"{file}: added {name}; this is its key, shown once", markup=False, highlight=False, soft_wrap=True)
    out.print(key, markup=False, highlight=False, soft_wrap=True)
    if not file:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
