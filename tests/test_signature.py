"""Keys and signatures: what they promise, and every way in which a bundle must not get past them."""

import asyncio
import os
import re
import shlex
import stat
from pathlib import Path
from shutil import copytree

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner

from conftest import DEFAULT_BUNDLE, ROOT, tiny_bundle
from oodgate import bundle as bundle_module
from oodgate.api.loading import Loader, open_model
from oodgate.bundle import load_bundle, sign_bundle, signer_of, write_bundle
from oodgate.cli import app
from oodgate.errors import BundleError, SetupError
from oodgate.keys import make_key
from oodgate.settings import Settings

RUNNER = CliRunner()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "release.key")
    return tmp_path / "release.key"


@pytest.fixture
def trusted(key: Path) -> Path:
    return key.with_name("release.key.pub")


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path, key: Path) -> Path:
    """A signed bundle that a test may damage."""
    copy = Path(copytree(bundle_folder, tmp_path / "tiny"))
    sign_bundle(copy, key)
    return copy


def refusal(folder: Path, trusted: Path, kind: type[SetupError] = BundleError) -> str:
    with pytest.raises(kind) as caught:
        load_bundle(folder, trusted)
    return str(caught.value)


def write_rsa_keys(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(65537, 2048)
    private, public = folder / "rsa.pem", folder / "rsa.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signed_bundle_is_read_and_names_its_key(folder: Path, trusted: Path, key: Path) -> None:
    bundle = load_bundle(folder, trusted)
    assert bundle.signed_by == signer_of(folder) == sign_bundle(folder, key)
    assert bundle.manifest == load_bundle(folder).manifest
    assert load_bundle(folder).signed_by is None


def test_any_key_of_a_folder_will_do(folder: Path, tmp_path: Path, trusted: Path) -> None:
    (tmp_path / "keys").mkdir()
    make_key(tmp_path / "keys" / "other")
    assert "expected one of the trusted keys" in refusal(folder, tmp_path / "keys")
    (tmp_path / "keys" / "release.pub").write_bytes(trusted.read_bytes())
    assert load_bundle(folder, tmp_path / "keys").signed_by


def test_the_signature_is_one_line_over_the_manifest(folder: Path, key: Path, trusted: Path) -> None:
    line = (folder / "manifest.sig").read_text()
    assert re.fullmatch(rf"ed25519 {signer_of(folder)} [A-Za-z0-9+/]{{86}}==\n", line)
    sign_bundle(folder, key)
    assert (folder / "manifest.sig").read_text() == line
    (folder / "manifest.sig").write_text(line.strip())
    assert load_bundle(folder, trusted).signed_by


def test_a_bundle_that_is_not_signed_is_refused(folder: Path, trusted: Path) -> None:
    name = signer_of(folder)
    (folder / "manifest.sig").unlink()
    assert refusal(folder, trusted) == (
        f"{folder / 'manifest.sig'} cannot be read (No such file or directory), expected a signature by one of the "
        f"trusted keys {name} ({trusted}); have the bundle signed with `oodgate sign`"
    )


def test_one_changed_bit_of_manifest_or_signature_is_refused(folder: Path, trusted: Path) -> None:
    for name in ("bundle.json", "manifest.sig"):
        content = (folder / name).read_bytes()
        for place in range(0, len(content) - 4, max(1, len(content) // 40)):  # the padding decodes alike
            changed = bytearray(content)
            changed[place] ^= 1
            (folder / name).write_bytes(changed)
            assert str(folder / "manifest.sig") in refusal(folder, trusted)
        (folder / name).write_bytes(content)
    assert load_bundle(folder, trusted).signed_by


def test_the_signature_is_verified_before_anything_is_parsed(folder: Path, trusted: Path) -> None:
    (folder / "bundle.json").write_bytes(b"[" * 200_000)
    assert "one of the two was changed" in refusal(folder, trusted)


@pytest.mark.parametrize("name", ["model.ts", "state.safetensors"])
def test_a_changed_file_is_refused_though_the_signature_is_right(name: str, folder: Path, trusted: Path) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")
    assert "SHA-256 differs" in refusal(folder, trusted)


def test_a_manifest_with_the_hash_of_a_changed_network_is_refused(folder: Path, trusted: Path) -> None:
    bundle, line = load_bundle(folder), (folder / "manifest.sig").read_bytes()
    write_bundle(folder, type(bundle)(bundle.manifest, bundle.model + b"\0", bundle.state))
    (folder / "manifest.sig").write_bytes(line)
    assert load_bundle(folder).model != bundle.model
    assert "one of the two was changed" in refusal(folder, trusted)


def test_a_signature_by_an_unknown_key_is_refused_even_under_a_known_id(folder: Path, tmp_path: Path) -> None:
    known, unknown = make_key(tmp_path / "known"), signer_of(folder)
    trusted = tmp_path / "known.pub"
    assert f"is by the key {unknown}, expected one of the trusted keys {known} ({trusted})" in refusal(folder, trusted)
    line = (folder / "manifest.sig").read_text()
    (folder / "manifest.sig").write_text(line.replace(str(unknown), known))
    assert "one of the two was changed" in refusal(folder, trusted)


@pytest.mark.parametrize("content", [b"", b"ed25519", b"\xff\xfe", b"{}", b"ed25519 0123456789abcdef short=="])
def test_a_signature_cut_short_or_of_another_form_is_refused(content: bytes, folder: Path, trusted: Path) -> None:
    (folder / "manifest.sig").write_bytes(content)
    assert "is no signature, expected one line `ed25519 KEY_ID SIGNATURE`" in refusal(folder, trusted)
    assert signer_of(folder) is None


def test_a_huge_signature_is_refused_without_reading_it_all(folder: Path, trusted: Path) -> None:
    with (folder / "manifest.sig").open("ab") as stream:
        stream.truncate(2**40)
    assert "is no signature" in refusal(folder, trusted)


def test_a_folder_in_place_of_the_signature_is_refused(folder: Path, trusted: Path) -> None:
    (folder / "manifest.sig").unlink()
    (folder / "manifest.sig").mkdir()
    assert "cannot be read (Is a directory)" in refusal(folder, trusted)


def test_nothing_of_a_refused_bundle_is_read(folder: Path, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "manifest.sig").unlink()
    monkeypatch.setattr(bundle_module, "_read_verified", lambda *_: pytest.fail("a file was read"))
    opened = open_model(folder, Settings(bundle=folder, device="cpu", trusted_keys=trusted))
    assert opened.gate is None
    assert "expected a signature by one of the trusted keys" in str(opened.reason)


def test_the_service_takes_a_signed_bundle_and_refuses_the_embedded_one(folder: Path, trusted: Path) -> None:
    settings = Settings(device="cpu", max_batch=1, trusted_keys=trusted)
    assert open_model(folder, settings).gate
    assert "expected a signature" in str(open_model(DEFAULT_BUNDLE, settings).reason)


def test_a_key_that_is_no_longer_trusted_counts_from_the_next_load_on(folder: Path, trusted: Path) -> None:
    loader = Loader(Settings(device="cpu", max_batch=1, trusted_keys=trusted))
    assert asyncio.run(loader.open(folder, "tiny")).gate
    trusted.unlink()
    assert "cannot be read" in str(asyncio.run(loader.open(folder, "tiny")).reason)
    loader.close()


def test_trusted_keys_that_are_none_refuse_everything(folder: Path, tmp_path: Path, key: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no *.pub in" in refusal(folder, tmp_path / "empty", SetupError)
    assert "cannot be read (No such file or directory)" in refusal(folder, tmp_path / "nothing", SetupError)
    assert "is not the key that was expected" in refusal(folder, key, SetupError)
    (tmp_path / "empty" / "huge.pub").write_bytes(b"-" * 2**20)
    assert "is not the key that was expected" in refusal(folder, tmp_path / "empty", SetupError)


def test_keys_of_another_type_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    private, public = write_rsa_keys(tmp_path)
    assert f"{public} holds an RSAPublicKey, expected a key for Ed25519" in refusal(folder, public, SetupError)
    with pytest.raises(SetupError, match="holds an RSAPrivateKey, expected a key for Ed25519; `oodgate keygen FILE`"):
        sign_bundle(folder, private)


def test_a_key_with_a_password_and_a_public_key_do_not_sign(folder: Path, tmp_path: Path, trusted: Path) -> None:
    locked = tmp_path / "locked"
    encryption = BestAvailableEncryption(b"secret")
    locked.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    for file in (locked, trusted, folder / "model.ts"):
        with pytest.raises(SetupError, match="expected, Ed25519 in PEM form without a password"):
            sign_bundle(folder, file)


def test_a_damaged_bundle_is_not_signed(folder: Path, key: Path) -> None:
    line = (folder / "manifest.sig").read_bytes()
    (folder / "state.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        sign_bundle(folder, key)
    assert (folder / "manifest.sig").read_bytes() == line


def test_a_private_key_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert b"PRIVATE" not in (tmp_path / "key.pub").read_bytes()


@pytest.mark.parametrize("name", ["key", "key.pub"])
def test_a_key_is_never_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(SetupError, match=f"{name} exists, and a key is never overwritten"):
        make_key(tmp_path / "key")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_key_in_a_folder_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot be written \(No such file or directory\)"):
        make_key(tmp_path / "nowhere" / "key")


def test_writing_a_bundle_removes_its_signature(folder: Path) -> None:
    write_bundle(folder, load_bundle(folder))
    assert not (folder / "manifest.sig").exists()


def test_calibrate_tells_that_the_bundle_has_to_be_signed_again(folder: Path, image_folder: Path) -> None:
    command = ["calibrate", str(folder), "--id", str(image_folder), "--device", "cpu"]
    assert f"warning: {folder} was signed by key " in RUNNER.invoke(app, command).stderr
    assert not (folder / "manifest.sig").exists()
    assert "signed" not in RUNNER.invoke(app, command).stderr


@pytest.mark.parametrize("command", ["inspect", "predict", "calibrate", "evaluate", "verify", "bench"])
def test_every_command_refuses_what_is_not_signed(
    command: str, bundle_folder: Path, image_folder: Path, trusted: Path
) -> None:
    rest = {
        "predict": [image_folder],
        "calibrate": ["--id", image_folder],
        "evaluate": ["--id", image_folder, "--ood", f"x={image_folder}"],
        "bench": ["--scores"],
    }
    words = [command, str(bundle_folder), *map(str, rest.get(command, []))]
    result = RUNNER.invoke(app, words, env={"OODGATE_TRUSTED_KEYS": str(trusted)})
    assert isinstance(result.exception, BundleError)
    assert "expected a signature by one of the trusted keys" in str(result.exception)


def test_verify_says_what_it_verified_and_what_not(folder: Path) -> None:
    name = signer_of(folder)
    answer = f"{folder}: tiny 1, 2 files as the manifest says"
    claimed = f"{answer}; it names the key {name}, and no trusted keys were given to verify that\n"
    assert RUNNER.invoke(app, ["verify", str(folder)]).stdout == claimed
    (folder / "manifest.sig").unlink()
    assert RUNNER.invoke(app, ["verify", str(folder)]).stdout == f"{answer}; it is not signed\n"


def test_the_commands_of_the_page_get_the_answers_that_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle(tmp_path / "models" / "stranger")
    named = bundle.manifest.model_copy(update={"name": "mine"})
    write_bundle(tmp_path / "models" / "mine", type(bundle)(named, bundle.model, bundle.state), {"index.md": b"# Mine"})
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "security.md").read_text().partition("## Who may ask")[0]
    blocks = re.findall(r"```console\n(.+?)```", page, re.DOTALL)
    examples = re.findall(r"^\$ (.+)\n(.+)$", "".join(blocks), re.MULTILINE)
    assert [re.findall(r"oodgate (\w+)", command)[0] for command, _ in examples] == [
        "keygen",
        "sign",
        "verify",
        "serve",
    ]
    for command, shown in examples:
        words = shlex.split(command)
        variables = dict(word.split("=") for word in words[: words.index("oodgate")])
        result = RUNNER.invoke(app, words[words.index("oodgate") + 1 :], env=variables)
        answer = result.stdout or f"oodgate: {result.exception}"
        assert without_ids(answer.strip()) == without_ids(shown)


def without_ids(text: str) -> str:
    """A text with every key id as the same word."""
    return re.sub(r"\b[0-9a-f]{16}\b", "KEY", text)
