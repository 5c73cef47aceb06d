"""The bundle's round trip, and everything that must keep a bundle from loading."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import tiny_bundle
from oodgate import bundle as bundle_module
from oodgate.bundle import Bundle, load_bundle, write_bundle
from oodgate.errors import BundleError

FILES = ("model.ts", "state.safetensors", "report/index.md", "report/plots/roc.svg")
REPORT = {"index.md": b"# Tiny\n", "plots/roc.svg": b"<svg/>"}

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def pristine(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle with a report, never changed."""
    folder = tmp_path_factory.mktemp("pristine") / "tiny"
    write_bundle(folder, load_bundle(bundle_folder), REPORT)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def edit_manifest(folder: Path, edit: Edit) -> None:
    path = folder / "bundle.json"
    record = json.loads(path.read_bytes())
    edit(record)
    path.write_text(json.dumps(record))


def replace_with_right_hash(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(folder, lambda record: record["files"].update({name: digest}))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    return str(caught.value)


def test_what_was_written_is_what_is_read(pristine: Path, bundle_folder: Path) -> None:
    found, origin = load_bundle(pristine), load_bundle(bundle_folder)
    assert found.model == origin.model == (pristine / "model.ts").read_bytes()
    assert found.manifest.model_copy(update={"files": {}}) == origin.manifest.model_copy(update={"files": {}})
    assert found.state.keys() == origin.state.keys() > {"classifier.weight", "classifier.bias"}
    for name, tensor in origin.state.items():
        torch.testing.assert_close(found.state[name], tensor, rtol=0, atol=0)


def test_the_manifest_holds_the_hash_of_every_other_file(pristine: Path) -> None:
    expected = {name: hashlib.sha256((pristine / name).read_bytes()).hexdigest() for name in FILES}
    assert load_bundle(pristine).manifest.files == expected
    on_disk = {path.relative_to(pristine).as_posix() for path in pristine.rglob("*") if path.is_file()}
    assert on_disk == {"bundle.json", *FILES}


def test_writing_returns_the_bundle_that_loading_gives(tmp_path: Path, pristine: Path) -> None:
    written = write_bundle(tmp_path / "copy", load_bundle(pristine), REPORT)
    assert written.manifest == load_bundle(tmp_path / "copy").manifest


def test_writing_twice_gives_the_same_bytes(folder: Path, pristine: Path) -> None:
    write_bundle(folder, load_bundle(folder))
    for name in ("bundle.json", *FILES):
        assert (folder / name).read_bytes() == (pristine / name).read_bytes(), name


def test_a_report_is_kept_unless_another_is_given(folder: Path) -> None:
    bundle = load_bundle(folder)
    write_bundle(folder, bundle)
    assert set(load_bundle(folder).manifest.files) == set(FILES)
    write_bundle(folder, bundle, {"new.md": b"new"})
    assert set(load_bundle(folder).manifest.files) == {"model.ts", "state.safetensors", "report/new.md"}


def test_a_file_that_the_manifest_does_not_list_is_no_part_of_the_report(folder: Path) -> None:
    bundle = load_bundle(folder)
    (folder / "report" / "planted.html").write_text("planted")
    write_bundle(folder, bundle)
    assert set(load_bundle(folder).manifest.files) == set(FILES)


def test_a_report_that_changed_since_it_was_read_is_not_kept(folder: Path) -> None:
    bundle = load_bundle(folder)
    (folder / "report" / "index.md").write_text("changed")
    with pytest.raises(BundleError, match=r"index\.md is not the file that bundle\.json describes"):
        write_bundle(folder, bundle)
    (folder / "report" / "index.md").write_bytes(REPORT["index.md"])
    assert load_bundle(folder).manifest == bundle.manifest


def test_tensors_that_are_not_contiguous_are_written(tmp_path: Path, pristine: Path) -> None:
    bundle = load_bundle(pristine)
    turned = torch.arange(6.0).reshape(2, 3).T
    write_bundle(tmp_path / "copy", Bundle(bundle.manifest, bundle.model, {"turned": turned}))
    torch.testing.assert_close(load_bundle(tmp_path / "copy").state["turned"], turned, rtol=0, atol=0)


def test_names_in_any_script_survive(folder: Path) -> None:
    classes = ["Ameise", "蜂", "γάτα", 'quote"\n']
    edit_manifest(folder, lambda record: record.update(classes=classes))
    write_bundle(folder, load_bundle(folder))
    assert load_bundle(folder).manifest.classes == tuple(classes)


def test_what_was_loaded_does_not_change_with_the_files(folder: Path) -> None:
    bundle = load_bundle(folder)
    model, bias = bundle.model, bundle.state["classifier.bias"].clone()
    for name in FILES:
        (folder / name).write_bytes(b"\xff" * (folder / name).stat().st_size)
    assert bundle.model == model
    torch.testing.assert_close(bundle.state["classifier.bias"], bias, rtol=0, atol=0)


def test_a_bundle_without_a_threshold_loads_and_says_how_to_get_one(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny")
    with pytest.raises(BundleError, match="'tiny' has no threshold yet; run `oodgate calibrate`"):
        _ = load_bundle(tmp_path / "tiny").calibration


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_is_found(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    for place in {0, len(content) // 2, len(content) - 1}:
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / name).write_bytes(changed)
        assert refusal(folder) == (
            f"{folder / name} is not the file that bundle.json describes (SHA-256 differs): it was cut short or "
            "changed; copy the whole bundle again"
        )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_found(name: str, left: float, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(left * len(content))])
    assert f"{folder / name} is not the file" in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(name: str, folder: Path) -> None:
    (folder / name).unlink()
    expected = f"{folder / name} cannot be read (No such file or directory); copy the whole bundle again"
    assert refusal(folder) == expected


def test_a_folder_in_place_of_a_file_is_found(folder: Path) -> None:
    (folder / "model.ts").unlink()
    (folder / "model.ts").mkdir()
    assert refusal(folder).startswith(f"{folder / 'model.ts'} cannot be read")


def test_a_missing_manifest_or_folder_is_no_bundle(folder: Path) -> None:
    (folder / "bundle.json").unlink()
    assert refusal(folder) == (
        f"there is no bundle in {folder} (No such file or directory: bundle.json); name a folder that `oodgate export` "
        "wrote"
    )
    assert "there is no bundle in" in refusal(folder / "elsewhere")


def test_a_manifest_cut_short_anywhere_is_found(folder: Path) -> None:
    path = folder / "bundle.json"
    content = path.read_bytes().rstrip()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert f"{path} is not JSON" in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"no json", b"\xff\xfe\x00", b'{"a": 1} 2', b"[" * 200_000], ids=lambda content: content[:8]
)
def test_a_manifest_that_is_not_json_is_found(content: bytes, folder: Path) -> None:
    (folder / "bundle.json").write_bytes(content)
    message = refusal(folder)
    assert f"{folder / 'bundle.json'} is not JSON" in message
    assert message.endswith("export the bundle again")


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_another_format_version_is_refused_with_the_one_that_is_read(version: object, folder: Path) -> None:
    edit_manifest(folder, lambda record: record.update(format_version=version))
    assert refusal(folder) == (
        f"{folder / 'bundle.json'} has format version {version}, this oodgate reads 1; use the oodgate that wrote it "
        "or export the bundle again"
    )


@pytest.mark.parametrize("record", ["[]", "null", "1", '"bundle"', "{}"])
def test_a_manifest_of_another_shape_has_no_format_version(record: str, folder: Path) -> None:
    (folder / "bundle.json").write_text(record)
    assert "has format version None" in refusal(folder)


def put(*path: str, value: object) -> Edit:
    """An edit that sets a value deep in the record."""

    def edit(record: dict[str, Any]) -> None:
        for part in path[:-1]:
            record = record[part]
        record[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (put("colour", value="red"), "colour"),
        (put("calibration", "scorer", "colour", value="red"), "calibration.scorer.colour"),
        (lambda record: record.pop("classes"), "classes"),
        (lambda record: record["calibration"].pop("threshold"), "calibration.threshold"),
        (put("classes", value=["ant"]), "classes"),
        (put("classes", value=["ant", "bee", "cat"]), "classes"),
        (put("name", value="../tiny"), "name"),
        (put("version", value=""), "version"),
        (put("preprocessing", "crop", value=[17, 16]), "preprocessing"),
        (put("preprocessing", "std", value=[0, 1, 1]), "preprocessing"),
        (put("outputs", "activation", value=[8, 4]), "outputs.activation.2"),
        (put("calibration", "threshold", value=float("nan")), "calibration.threshold"),
        (put("calibration", "threshold", value=float("-inf")), "calibration.threshold"),
        (put("calibration", "scorer", "w", value=1.5), "calibration.scorer.w"),
        (put("calibration", "guarantee", "kind", value="certain"), "calibration.guarantee.kind"),
        (put("calibration", "guarantee", "alpha", value=0), "calibration.guarantee.alpha"),
        (put("calibration", "precision", value="float8"), "calibration.precision"),
        (put("files", "model.ts", value=None), "files.model.ts"),
    ],
)
def test_an_invalid_field_is_named(edit: Edit, where: str, folder: Path) -> None:
    edit_manifest(folder, edit)
    message = refusal(folder)
    assert message.startswith(f"{folder / 'bundle.json'} is not valid at '{where}': ")
    assert message.endswith("export the bundle again")


@pytest.mark.parametrize("name", ["model.ts", "state.safetensors"])
def test_a_file_without_a_hash_is_refused(name: str, folder: Path) -> None:
    edit_manifest(folder, lambda record: record["files"].pop(name))
    assert refusal(folder) == f"{folder / 'bundle.json'} lists no SHA-256 for {name}; export the bundle again"


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_wrong_hash_is_refused(digest: str, folder: Path) -> None:
    edit_manifest(folder, put("files", "model.ts", value=digest))
    assert f"{folder / 'model.ts'} is not the file" in refusal(folder)


@pytest.mark.parametrize("name", ["../secret", "report/../../secret", "{absolute}", "model.ts/../../secret", "a\0b"])
def test_a_path_out_of_the_bundle_is_refused_even_with_the_right_hash(name: str, folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"secret")
    name = name.format(absolute=secret)
    edit_manifest(folder, put("files", name, value=hashlib.sha256(b"secret").hexdigest()))
    assert refusal(folder) == (
        f"{folder / 'bundle.json'} names the file {name!r}, which does not lie in the bundle; export the bundle again"
    )


def test_a_link_out_of_the_bundle_is_refused(folder: Path) -> None:
    model = folder / "model.ts"
    model.symlink_to(model.rename(folder.parent / "model.ts"))
    assert "'model.ts', which does not lie in the bundle" in refusal(folder)


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / "model.ts").unlink()
    (folder / "model.ts").symlink_to(folder / "model.ts")
    assert str(folder) in refusal(folder)


def test_a_bundle_behind_a_link_is_read(folder: Path) -> None:
    (folder.parent / "current").symlink_to(folder)
    assert load_bundle(folder.parent / "current").manifest == load_bundle(folder).manifest


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_state_that_holds_no_tensors_is_refused_even_with_the_right_hash(content: bytes, folder: Path) -> None:
    replace_with_right_hash(folder, "state.safetensors", content)
    message = refusal(folder)
    assert message.startswith(f"{folder / 'state.safetensors'} is not a safetensors file")
    assert message.endswith("export the bundle again")


@pytest.mark.parametrize(("limit", "name"), [("MAX_MANIFEST_BYTES", "bundle.json"), ("MAX_FILE_BYTES", "model.ts")])
def test_files_over_the_size_limit_are_not_read(
    limit: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (folder / name).stat().st_size
    monkeypatch.setattr(bundle_module, limit, size)
    load_bundle(folder)
    monkeypatch.setattr(bundle_module, limit, size - 1)
    message = refusal(folder)
    assert message.startswith(f"{folder / name} is larger than")
    assert "; export " in message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_manifest_loads_or_is_refused(data: st.DataObject, folder: Path, pristine: Path) -> None:
    content = bytearray((pristine / "bundle.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "bundle.json").write_bytes(content)
    try:
        assert load_bundle(folder).model == (pristine / "model.ts").read_bytes()
    except BundleError as error:
        assert str(folder) in str(error)


class PowerCut(Exception):
    """Ends a write between two files."""


def cut_power_after(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, left = Path.replace, iter(range(files))

    def replace_or_die(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise PowerCut
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)


def another(bundle: Bundle) -> Bundle:
    """A bundle of which every file differs."""
    manifest = bundle.manifest.model_copy(update={"version": "2"})
    return Bundle(manifest, bundle.model + b"\0", {name: tensor + 1 for name, tensor in bundle.state.items()})


@pytest.mark.parametrize("files", range(5))
def test_a_first_write_that_was_interrupted_never_verifies(
    files: int, tmp_path: Path, pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(pristine)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_power_after(files, patch)
        write_bundle(tmp_path / "new", bundle, REPORT)
    assert "there is no bundle in" in refusal(tmp_path / "new")
    write_bundle(tmp_path / "new", bundle, REPORT)
    assert load_bundle(tmp_path / "new").manifest == bundle.manifest


@pytest.mark.parametrize("files", range(5))
def test_an_update_that_was_interrupted_leaves_the_old_bundle_or_none(
    files: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load_bundle(folder)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_power_after(files, patch)
        write_bundle(folder, another(old), dict.fromkeys(REPORT, b"new"))
    if files == 0:
        assert load_bundle(folder).manifest == old.manifest
    else:
        assert "SHA-256 differs" in refusal(folder)
