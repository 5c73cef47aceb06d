"""Keys that sign: made, named, read. Ed25519 in PEM files, the private ones without a password."""

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from oodgate.errors import SetupError

PUBLIC_SUFFIX = ".pub"
MAX_KEY_BYTES = 64 * 2**10

_NEW_KEY = "`oodgate keygen FILE` makes FILE, which signs, and FILE.pub, which is trusted"


def make_key(file: Path) -> str:
    """Write a new private key, which its owner alone may read, and the public one beside it; returns the key's id.

    Raises SetupError where one of the two files exists or cannot be written.
    """
    public_file = public_file_of(file)
    if taken := [path for path in (file, public_file) if path.exists()]:
        raise SetupError(f"{taken[0]} exists, and a key is never overwritten; name another file")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(file, private, 0o600)
    _create(public_file, public, 0o644)
    return key_id(key.public_key())


def public_file_of(file: Path) -> Path:
    """Where the public half of a private key's file lies."""
    return Path(f"{file}{PUBLIC_SUFFIX}")


def key_id(key: Ed25519PublicKey) -> str:
    """The 16 hexadecimal digits that name a key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def private_key(file: Path) -> Ed25519PrivateKey:
    """The key of a file that `make_key` wrote; raises SetupError where the file holds none."""
    key = _load_key(file, partial(load_pem_private_key, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong_type(file, key)
    return key


def trusted_keys(trusted: Path) -> Mapping[str, Ed25519PublicKey]:
    """Keys by id, from a public key's file or all *.pub of a folder; raises SetupError where there are none."""
    files = sorted(trusted.glob(f"*{PUBLIC_SUFFIX}")) if trusted.is_dir() else [trusted]
    if not files:
        raise SetupError(f"there is no *{PUBLIC_SUFFIX} in {trusted}; copy the public keys that you trust into it")
    keys = [_public_key(file) for file in files]
    return {key_id(key): key for key in keys}


def _public_key(file: Path) -> Ed25519PublicKey:
    key = _load_key(file, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong_type(file, key)
    return key


def _load_key(file: Path, load: Callable[[bytes], object]) -> object:
    try:
        return load(read_bounded(file, MAX_KEY_BYTES))
    except OSError as error:
        raise SetupError(f"the key {file} cannot be read ({error.strerror}); {_NEW_KEY}") from error
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise SetupError(
            f"{file} is not the key that was expected, Ed25519 in PEM form without a password; {_NEW_KEY}"
        ) from error


def _wrong_type(file: Path, key: object) -> SetupError:
    return SetupError(f"{file} holds an {type(key).__name__}, expected a key for Ed25519; {_NEW_KEY}")


def read_bounded(file: Path, limit: int) -> bytes:
    """A file, or its beginning with one byte more than the limit, which no valid file has; raises OSError."""
    with file.open("rb") as stream:
        return stream.read(limit + 1)


def _create(file: Path, content: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
    except OSError as error:
        raise SetupError(f"{file} cannot be written ({error.strerror}); name another file") from error
