"""Print the README's tree: every module with the first sentence of its docstring.

python docs/tree.py
"""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "service" / "oodgate"


def lines() -> Iterator[str]:
    """Folders in alphabetical order after the files of the package itself."""
    paths = [path for path in SOURCES.rglob("*.py") if path.name != "__init__.py"]
    for path in sorted(paths, key=lambda path: (path.parent != SOURCES, path)):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        yield f"{path.relative_to(SOURCES).as_posix():34} {docstring.splitlines()[0]}"


if __name__ == "__main__":
    print("\n".join(lines()))
