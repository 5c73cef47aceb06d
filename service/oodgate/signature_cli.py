"""The commands for signatures of bundles: make a key, sign, verify; and the word that a signature is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from oodgate.console import err, out
from oodgate.options import BundleArgument, TrustedOption

app = typer.Typer()

KeyOption = Annotated[Path, typer.Option("--key", metavar="FILE", help="Private key that `oodgate keygen` made.")]


@app.command()
def keygen(file: Annotated[Path, typer.Argument(metavar="FILE", help="File of the new private key.")]) -> None:
    """Make a key that signs bundles: FILE, which you keep to yourself, and FILE.pub for those who trust you."""
    from oodgate.keys import make_key, public_file_of

    name = make_key(file)
    _say(f"key {name}: {file} signs, keep it to yourself; {public_file_of(file)} is for those who trust it")


@app.command()
def sign(bundle_folder: BundleArgument, key: KeyOption) -> None:
    """Sign a bundle, once its hashes are verified."""
    from oodgate.bundle import sign_bundle

    _say(f"{bundle_folder}: signed by key {sign_bundle(bundle_folder, key)}")


@app.command()
def verify(bundle_folder: BundleArgument, trusted: TrustedOption = None) -> None:
    """Verify a bundle's hashes, and its signature where keys are trusted, without running its network."""
    from oodgate.bundle import load_bundle, signer_of

    bundle = load_bundle(bundle_folder, trusted)
    manifest = bundle.manifest
    verified = f"{bundle_folder}: {manifest.name} {manifest.version}, {len(manifest.files)} files as the manifest says"
    if bundle.signed_by:
        _say(f"{verified}, signed by the trusted key {bundle.signed_by}")
    elif claimed := signer_of(bundle_folder):
        _say(f"{verified}; it names the key {claimed}, and no trusted keys were given to verify that")
    else:
        _say(f"{verified}; it is not signed")


@contextmanager
def removal_is_told(bundle_folder: Path) -> Iterator[None]:
    """Tell whoever writes a bundle that its signature went with what it signed."""
    from oodgate.bundle import signer_of

    name = signer_of(bundle_folder)
    yield
    if name and not signer_of(bundle_folder):
        sentence = f"warning: {bundle_folder} was signed by key {name} and has changed; run `oodgate sign` on it again"
        err.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _say(sentence: str) -> None:
    out.print(sentence, markup=False, highlight=False, soft_wrap=True)
