"""Keys of clients: made, written as a line of a file, read. The file holds their hashes, never the keys."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe

from oodgate.errors import SetupError
from oodgate.keys import read_bounded

SCOPES = ("predict", "metrics", "admin")
MAX_FILE_BYTES = 2**20

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FORM = "NAME SCOPES SHA256, as `oodgate key` writes it"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Whose key it is, and what it opens."""

    name: str
    scopes: frozenset[str]


Keys = Mapping[bytes, ApiKey]
"""Keys by their hash."""


def make_key() -> str:
    """A new key, of 32 random bytes."""
    return f"oodgate_{token_urlsafe(32)}"


def hash_of(key: bytes) -> bytes:
    """What the file keeps of a key."""
    # Slow, salted hashes are for passwords, which can be guessed; nobody guesses 32 random bytes.
    return sha256(key).digest()


def line_of(name: str, scopes: Sequence[str], key: str) -> str:
    """The line that gives a key its name and scopes; raises SetupError where the name or a scope is none."""
    if not _NAME.fullmatch(name):
        raise SetupError(f"'{name}' cannot name a key; a name has at most 64 letters, digits, '.', '_' or '-'")
    if unknown := set(scopes) - set(SCOPES):
        raise SetupError(f"there is no scope '{min(unknown)}'; there are {', '.join(SCOPES)}")
    return f"{name} {','.join(dict.fromkeys(scopes))} {hash_of(key.encode()).hex()}"


def add_line(file: Path, line: str) -> None:
    """Append a line to a file of keys, or begin one; raises SetupError where it cannot be written."""
    try:
        with file.open("a+b") as stream:
            unfinished = stream.tell() and stream.seek(-1, 2) >= 0 and stream.read(1) != b"\n"
            stream.write(b"\n" * bool(unfinished) + line.encode() + b"\n")
    except OSError as error:
        raise SetupError(f"{file} cannot be written ({error.strerror}); name another file") from error


def read_keys(file: Path) -> Keys:
    """The keys of a file; several may have one name. Raises SetupError where it is not whole, or holds none."""
    try:
        content = read_bounded(file, MAX_FILE_BYTES)
    except OSError as error:
        raise SetupError(f"the keys {file} cannot be read ({error.strerror}); `oodgate key` makes them") from error
    if len(content) > MAX_FILE_BYTES:
        raise SetupError(f"{file} has more than {MAX_FILE_BYTES} bytes, too many for keys; name the right file")
    keys: dict[bytes, ApiKey] = {}
    for number, words in _lines(content):
        digest, key = _parsed(f"line {number} of {file}", words)
        if digest in keys:
            raise SetupError(f"line {number} of {file} repeats a key; remove it")
        keys[digest] = key
    if not keys:  # as while the file is being written anew: it must not lock everybody out
        raise SetupError(f"there is no key in {file}; `oodgate key NAME --file {file}` adds one")
    return keys


def _lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield number, words


def _parsed(place: str, words: list[str]) -> tuple[bytes, ApiKey]:
    # What is wrong is not shown: it may be a key that somebody wrote there as it is.
    if len(words) != 3 or not _NAME.fullmatch(words[0]) or not _HASH.fullmatch(words[2]):
        raise SetupError(f"{place} is not {_FORM}; correct it")
    scopes = frozenset(words[1].split(","))
    if not scopes <= set(SCOPES):
        raise SetupError(f"{place} has an unknown scope; there are {', '.join(SCOPES)}")
    return bytes.fromhex(words[2]), ApiKey(words[0], scopes)
