"""The bundle: a folder with a network, its classes, its preprocessing and its calibration.

    bundle.json         manifest, with the SHA-256 of every other file
    model.ts            TorchScript: float images (N, 3, H, W) -> logits (N, K), activation (N, C, h, w);
                        model.pt2 where another engine runs it
    state.safetensors   classifier weights, fitted tensors, sorted calibration scores
    report/             what people read about it
    manifest.sig        signature of the manifest, and so of every file that it has the hash of; or none

This module alone knows the file names. What it returns was read once and hashed as it was read, so that a file
that changes later changes nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from oodgate.errors import BundleError
from oodgate.images.preprocess import Preprocessing
from oodgate.settings import Precision
from oodgate.signature import claimed_key, sign, verify

FORMAT_VERSION = 1
MANIFEST, STATE, REPORT, SIGNATURE = "bundle.json", "state.safetensors", "report", "manifest.sig"
MODEL_FILES = {"torchscript": "model.ts", "export": "model.pt2", "aotinductor": "model.pt2"}
"""File of the network by the engine that runs it."""

Engine = Literal["torchscript", "export", "aotinductor"]
MAX_MANIFEST_BYTES = 32 * 2**20
MAX_FILE_BYTES = 4 * 2**30


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outputs(_Record):
    """Shapes of what the network answers for one image."""

    logits: tuple[int] = Field(description="(K,)")
    activation: tuple[int, int, int] = Field(description="(C, h, w), before global pooling")
    kind: Literal["map", "attention"] = Field(
        "map", description="A feature map, or the attention (1, 1, tokens) of a transformer's class token"
    )


class Scorer(_Record):
    """Which score decides, and with which settings."""

    name: str = Field(description="A name of the registry of scores")
    w: float | None = Field(None, ge=0, le=1, description="Weight of the other score against NAP")
    parameters: dict[str, float] = Field(default_factory=dict, description="Settings of the methods, by name")


class Guarantee(_Record):
    """What the threshold promises about images from the calibration's distribution."""

    kind: Literal["pac", "marginal"]
    alpha: float = Field(gt=0, lt=1, description="Target share of rejected in-distribution images")
    delta: float | None = Field(None, gt=0, lt=1, description="Probability that a PAC threshold misses its target")
    images: int = Field(ge=1, description="Calibration images")
    rank: int = Field(ge=1, description="The threshold is this order statistic of the calibration scores")


class Agreement(_Record):
    """How far another number format, or another decoder, moves the answers on the calibration images."""

    largest_difference: float = Field(description="Largest difference of the scores")
    changed_decisions: float = Field(ge=0, le=1, description="Share of images whose decision changes")


class Calibration(_Record):
    """Everything that `oodgate calibrate` adds to a bundle."""

    scorer: Scorer
    threshold: float
    guarantee: Guarantee
    temperature: float = Field(1.0, gt=0, description="Divides the logits before probabilities are taken")
    class_alphas: dict[int, float] = Field(
        default_factory=dict, description="Upper bounds of the rejected share by predicted class; -1: all others"
    )
    precision: Precision = "float32"
    precision_checks: dict[Precision, Agreement] = Field(default_factory=dict)
    decoding_checks: dict[Literal["cpu", "cuda"], Agreement] = Field(
        default_factory=dict, description="By the kind of device that decoded"
    )


class Manifest(_Record):
    """The content of bundle.json."""

    format_version: int
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")
    classes: tuple[str, ...] = Field(min_length=2)
    class_ids: tuple[str, ...] = Field((), description="The owner's ids of the classes, in their order; or none")
    parents: dict[str, str] = Field(default_factory=dict, description="The hierarchy: what a name belongs to")
    preprocessing: Preprocessing
    engine: Engine = Field("torchscript", description="What runs the network's file")
    outputs: Outputs
    notices: tuple[str, ...] = Field((), description="What the export had to warn of")
    calibration: Calibration | None = None
    measures: dict[str, Any] = Field(default_factory=dict, description="AUROC and friends, as measured")
    provenance: dict[str, Any] = Field(default_factory=dict, description="Where network and data came from")
    files: dict[str, str] = Field(default_factory=dict, description="SHA-256 of every other file, by relative path")

    @model_validator(mode="after")
    def _class_for_every_logit(self) -> Self:
        if len(self.classes) != self.outputs.logits[0]:
            raise ValueError(f"{len(self.classes)} classes for {self.outputs.logits[0]} logits")
        if self.class_ids and len(self.class_ids) != len(self.classes):
            raise ValueError(f"{len(self.class_ids)} ids for {len(self.classes)} classes")
        return self

    @model_validator(mode="after")
    def _hierarchy_has_roots(self) -> Self:
        for name in self.parents:
            self.ancestors(name)
        return self

    def ancestors(self, name: str) -> tuple[str, ...]:
        """What a class belongs to, nearest first; raises ValueError where the hierarchy goes in a circle."""
        path: dict[str, None] = {}
        while name in self.parents:
            name = self.parents[name]
            if name in path:
                raise ValueError(f"the hierarchy goes in a circle at '{name}'")
            path[name] = None
        return tuple(path)


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory: the manifest, the network's bytes, the tensors by name."""

    manifest: Manifest
    model: bytes
    state: Mapping[str, torch.Tensor]
    signed_by: str | None = None  # id of the trusted key by which all of it was signed as it was read

    @property
    def network_hash(self) -> str:
        """SHA-256 of the network's file."""
        return hashlib.sha256(self.model).hexdigest()

    @property
    def calibration(self) -> Calibration:
        """The calibration; raises BundleError where the bundle was exported but not calibrated."""
        if self.manifest.calibration is None:
            raise BundleError(
                f"bundle '{self.manifest.name}' has no threshold yet; run `oodgate calibrate` on it with a folder of "
                "in-distribution images"
            )
        return self.manifest.calibration


def load_bundle(folder: Path, trusted: Path | None = None) -> Bundle:
    """Read and verify a bundle; raises BundleError with one sentence on what is wrong with it.

    With `trusted`, a public key or a folder of them, nothing is parsed before a signature by one of these keys was
    verified; raises SetupError where there are no keys in it.
    """
    content = _read_manifest(folder)
    signed_by = None if trusted is None else verify(content, folder / SIGNATURE, trusted)
    manifest = _parse_manifest(folder / MANIFEST, content)
    contents = _read_files(folder, manifest)
    try:
        state = load_tensors(contents[STATE])
    except SafetensorError as error:
        raise BundleError(f"{folder / STATE} is not a safetensors file ({error}); export the bundle again") from error
    return Bundle(manifest, contents[MODEL_FILES[manifest.engine]], state, signed_by)


def sign_bundle(folder: Path, key_file: Path) -> str:
    """Verify the hashes of a bundle and sign its manifest; returns the key's id.

    Raises BundleError where the bundle is damaged, and SetupError where the file holds no private key.
    """
    content = _read_manifest(folder)
    _read_files(folder, _parse_manifest(folder / MANIFEST, content))
    line, name = sign(content, key_file)
    _replace(folder / SIGNATURE, line)
    return name


def signer_of(folder: Path) -> str | None:
    """The key id that the signature of a bundle names, unverified; None where there is no signature."""
    return claimed_key(folder / SIGNATURE)


def write_bundle(folder: Path, bundle: Bundle, report: Mapping[str, bytes] | None = None) -> Bundle:
    """Write a bundle and its report; the manifest goes last, so that a half-written bundle never verifies.

    `report` maps file names to contents; None keeps the report that the manifest lists. A signature is removed: it is
    one of the old manifest. Returns the bundle with its hashes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _listed_report(folder)
    model = MODEL_FILES[bundle.manifest.engine]
    contents = {model: bundle.model, STATE: save_tensors({k: v.contiguous() for k, v in bundle.state.items()})}
    contents |= (
        _kept_report(folder, bundle.manifest) if report is None else {f"{REPORT}/{k}": v for k, v in report.items()}
    )
    (folder / SIGNATURE).unlink(missing_ok=True)
    for name, content in contents.items():
        _replace(folder / name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = bundle.manifest.model_copy(update={"files": hashes})
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
    _replace(folder / MANIFEST, text.encode() + b"\n")
    for path in before - {folder / name for name in contents}:
        path.unlink(missing_ok=True)  # it told of the bundle that was here
    return Bundle(manifest, bundle.model, bundle.state)


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes, no manifest is; export it again")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"there is no bundle in {folder} ({error.strerror}: {MANIFEST}); name a folder that `oodgate export` wrote"
        ) from error


def _parse_manifest(path: Path, content: bytes) -> Manifest:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{path} is not JSON ({error}); it was cut short or edited, export the bundle again"
        ) from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this oodgate reads {FORMAT_VERSION}; use the oodgate that wrote it "
            "or export the bundle again"
        )
    try:
        return Manifest.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "classes"  # the one check of the whole record
        raise BundleError(f"{path} is not valid at '{where}': {first['msg']}; export the bundle again") from error


def _read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    contents = {name: _read_verified(folder, name, digest) for name, digest in manifest.files.items()}
    for name in (MODEL_FILES[manifest.engine], STATE):
        if name not in contents:
            raise BundleError(f"{folder / MANIFEST} lists no SHA-256 for {name}; export the bundle again")
    return contents


def _read_verified(folder: Path, name: str, digest: str) -> bytes:
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (ValueError, RuntimeError):  # a NUL in the name, a symbolic link to itself
        inside = False
    if not inside:
        raise BundleError(
            f"{folder / MANIFEST} names the file {name!r}, which does not lie in the bundle; export the bundle again"
        )
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(f"{path} is larger than the {MAX_FILE_BYTES} bytes allowed; export a smaller bundle")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); copy the whole bundle again") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleError(
            f"{path} is not the file that {MANIFEST} describes (SHA-256 differs): it was cut short or changed; copy "
            "the whole bundle again"
        )
    return content


def _listed_report(folder: Path) -> set[Path]:
    """The files of the report that the manifest in a folder lists, if there is one."""
    try:
        names = _parse_manifest(folder / MANIFEST, _read_manifest(folder)).files
    except BundleError:
        return set()
    own = (folder / REPORT).resolve()
    return {folder / name for name in names if (folder / name).resolve().parent == own}


def _kept_report(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    # What the manifest does not list may be anybody's, and a hash or a signature would vouch for it.
    listed = {name: digest for name, digest in sorted(manifest.files.items()) if name.startswith(f"{REPORT}/")}
    return {name: _read_verified(folder, name, digest) for name, digest in listed.items() if (folder / name).is_file()}


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
