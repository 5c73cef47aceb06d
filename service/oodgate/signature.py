"""Signatures: who vouches for a file. One line of text beside what was signed.

    ed25519 KEY_ID SIGNATURE

KEY_ID is the beginning of the SHA-256 of the raw public key, in hexadecimal; it only says which key to try. SIGNATURE
is the base64 of Ed25519's 64 bytes over the signed bytes as they are.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from oodgate.errors import BundleError
from oodgate.keys import key_id, private_key, read_bounded, trusted_keys

MAX_SIGNATURE_BYTES = 256

_LINE = re.compile(rb"ed25519 ([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==)\n?")


def sign(content: bytes, key_file: Path) -> tuple[bytes, str]:
    """The line of a signature, and the id of its key; raises SetupError where the file holds no private key."""
    key = private_key(key_file)
    name = key_id(key.public_key())
    return b"ed25519 %s %s\n" % (name.encode(), b64encode(key.sign(content))), name


def verify(content: bytes, signature_file: Path, trusted: Path) -> str:
    """The id of the trusted key that signed the content.

    Raises BundleError where none did, and SetupError where `trusted` is no key and no folder of them.
    """
    keys = trusted_keys(trusted)
    name, signature = _read_signature(signature_file, keys, trusted)
    if name not in keys:
        raise BundleError(
            f"{signature_file} is by the key {name}, expected one of {_listed(keys, trusted)}; take a bundle that one "
            "of these signed, or add the other key's .pub file if you trust its owner"
        )
    try:
        keys[name].verify(signature, content)
    except InvalidSignature as error:
        raise BundleError(
            f"{signature_file} is not a signature of what lies beside it by the key {name}: one of the two was "
            "changed; copy the whole bundle again, or run `oodgate sign` on it if the change was yours"
        ) from error
    return name


def claimed_key(signature_file: Path) -> str | None:
    """The key id that a signature names, whether it is by that key or not; None where there is no signature."""
    try:
        line = _LINE.fullmatch(read_bounded(signature_file, MAX_SIGNATURE_BYTES))
    except OSError:
        return None
    return line[1].decode() if line else None


def _read_signature(file: Path, keys: Mapping[str, Ed25519PublicKey], trusted: Path) -> tuple[str, bytes]:
    try:
        line = _LINE.fullmatch(read_bounded(file, MAX_SIGNATURE_BYTES))
    except OSError as error:
        raise BundleError(
            f"{file} cannot be read ({error.strerror}), expected a signature by one of {_listed(keys, trusted)}; have "
            "the bundle signed with `oodgate sign`"
        ) from error
    if line is None:
        raise BundleError(
            f"{file} is no signature, expected one line `ed25519 KEY_ID SIGNATURE`: it was cut short or edited; copy "
            "the whole bundle again"
        )
    return line[1].decode(), b64decode(line[2])


def _listed(keys: Mapping[str, Ed25519PublicKey], trusted: Path) -> str:
    return f"the trusted keys {', '.join(sorted(keys))} ({trusted})"
