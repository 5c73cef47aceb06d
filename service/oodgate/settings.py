"""The settings of the service: one field is one setting, an `OODGATE_*` variable and an option of `oodgate serve`."""

import re
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Device = Literal["auto", "cuda", "cpu"]
Precision = Literal["float32", "bfloat16", "float16"]
Acceleration = Literal["none", "winograd", "onednn", "openvino", "graphs"]
Decoding = Literal["host", "device"]
Measured = Annotated[int, BeforeValidator(lambda value: 0 if value == "auto" else value)]
"""A number, or "auto", which is kept as 0: the service finds out what is best."""

IMAGE_TYPES = {
    "jpeg": ("image/jpeg", "image/jpg", "image/pjpeg"),
    "png": ("image/png", "image/x-png", "image/apng"),
    "webp": ("image/webp",),
    "gif": ("image/gif",),
    "bmp": ("image/bmp", "image/x-ms-bmp"),
    "tiff": ("image/tiff",),
}
"""Formats that can be allowed, each with the content types that announce it."""

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


class Settings(BaseSettings):
    """Everything an operator can set, read once at the entry point and passed down."""

    # An empty variable is how compose files and shells say that there is none; a path of "" would be the folder itself.
    model_config = SettingsConfigDict(env_prefix="OODGATE_", frozen=True, extra="forbid", env_ignore_empty=True)

    bundle: Path = Field(
        Path("models/cifar10-resnet9"), description="Folder of the bundle to serve; it gives the default model."
    )
    models: Path | None = Field(
        None, description="Folder of bundles, each served by its name; the bundle's default is left out then."
    )
    default_model: str = Field(
        "",
        description="Name of the model that answers where none is named; the bundle's, or the only one, if not given.",
    )
    trusted_keys: Path | None = Field(
        None, description="Public key, or folder of them (*.pub); a bundle that none of them signed is refused."
    )
    allow_reload: bool = Field(
        False, description="Let clients load and unload models and reset drift alarms over HTTP."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    admin_port: int = Field(
        0, ge=0, le=65535, description="Port that alone has metrics, pages, load, unload and reset; 0 has all on one."
    )
    docs: bool = Field(True, description="Serve /docs, /redoc and /openapi.json.")
    api_keys: Path | None = Field(
        None, description="File of `oodgate key` with the clients' keys; everybody may ask if not given."
    )
    tls_certificate: Path | None = Field(
        None, description="Certificate and its chain (PEM), to serve HTTPS; needs tls_key."
    )
    tls_key: Path | None = Field(None, description="Private key of the certificate (PEM), without a password.")
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks whose X-Forwarded-For and -Proto count, separated by commas; nobody's if "
        "not given.",
    )
    allowed_hosts: str = Field(
        "", description="Names that clients may ask by, such as a.org,*.b.org; any if not given. Probes use any."
    )

    device: Device = Field("auto", description="Where the model runs; auto takes CUDA where there is one.")
    precision: Precision = Field(
        "float32", description="Number format of the forward; the bundle must have been calibrated or checked for it."
    )
    acceleration: Literal["auto", Acceleration] = Field(
        "auto", description="What runs a TorchScript network faster; auto measures whether anything does."
    )
    decoding: Decoding = Field(
        "host",
        description="Where JPEG files are decoded and resized; the bundle must have been checked for the device's way.",
    )
    threads: Measured = Field(
        0, ge=0, le=1024, description="Threads of one forward on the CPU; auto takes what is fastest."
    )
    workers: Measured = Field(0, ge=0, le=256, description="Forwards at the same time; auto takes what is fastest.")

    fronts: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes that read requests and open images beside the one with the models; 0 does all in one.",
    )

    max_batch: Measured = Field(
        0,
        ge=0,
        le=4096,
        description="Most images in one forward; auto measures what is fastest when a model is loaded. Where it is "
        "given, nothing is measured, and auto of the other settings is one forward at a time, not accelerated.",
    )
    max_wait_ms: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="How long an image may wait for a batch to fill while a worker is idle.",
    )
    max_queue: int = Field(512, ge=1, le=1_000_000, description="Most images waiting; one more is answered 429.")
    deadline_ms: float = Field(10_000, gt=0, le=600_000, description="Time for one image, then 504.")
    body_timeout_ms: float = Field(
        20_000, gt=0, le=600_000, description="Time for a client to send its body, then 408."
    )
    keep_alive_ms: float = Field(
        75_000, gt=0, le=3_600_000, description="Time for which a connection without a request stays open."
    )
    hang_timeout_ms: float = Field(
        60_000, gt=0, le=3_600_000, description="Time for one batch; after that the service answers 503 and exits."
    )
    drain_delay_ms: float = Field(
        500, ge=0, le=600_000, description="After SIGTERM, time during which readiness says no and the port is open."
    )
    drain_timeout_ms: float = Field(20_000, ge=0, le=600_000, description="After that, time for the work in flight.")

    max_bytes: int = Field(16 * 2**20, ge=1, description="Most bytes of one image.")
    max_pixels: int = Field(50_000_000, ge=1, description="Most pixels of one image, checked before they are decoded.")
    max_files: int = Field(64, ge=1, le=4096, description="Most files of one batch request.")
    max_request_bytes: int = Field(64 * 2**20, ge=1, description="Most bytes of one batch request.")
    image_formats: str = Field(
        ",".join(IMAGE_TYPES), description="Allowed formats, separated by commas; no other decoder is reachable."
    )
    decode_threads: Measured = Field(
        0, ge=0, le=256, description="Threads that open images, where they are more than workers; auto takes the cores."
    )

    state_dir: Path | None = Field(
        None, description="Folder for what outlives a restart, of one process alone; nothing does if not given."
    )
    drift_false_alarms: float = Field(
        0.01, gt=0, lt=1, description="Largest probability that the drift alarm is ever raised without drift."
    )
    drift_client_rate: int = Field(
        0, ge=0, description="Most images a minute that one client adds to the drift alarm; 0 sets no limit."
    )
    quarantine: str = Field(
        "", description="Folder or URL that keeps rejected images for people to look at; none are kept if not given."
    )
    quarantine_bytes: int = Field(10 * 2**30, ge=1, description="Most bytes that are kept; the oldest images go first.")
    quarantine_age_days: float = Field(30.0, ge=0, description="Days to keep an image that is not seen again.")
    quarantine_accepted_share: float = Field(0.0, ge=0, le=1, description="Share of the accepted images to keep too.")

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="JSON lines, or text for people; auto takes text on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("image_formats")
    @classmethod
    def _known_formats(cls, value: str) -> str:
        unknown = set(value.split(",")) - set(IMAGE_TYPES)
        if unknown:
            raise ValueError(f"unknown format {', '.join(sorted(unknown))}; choose from {', '.join(IMAGE_TYPES)}")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for network in _entries(value):
            ip_network(network)
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: str) -> str:
        for name in _entries(value):
            if not _HOST.fullmatch(name):
                raise ValueError(f"'{name}' is not a host's name or address without a port")
        return value

    @property
    def serves_bundle(self) -> bool:
        """Whether `bundle` is served: where it was given, and where `models` was not."""
        return self.models is None or "bundle" in self.model_fields_set

    @cached_property
    def formats(self) -> tuple[str, ...]:
        """The allowed formats as a tuple of lower-case names."""
        return tuple(self.image_formats.split(","))

    @cached_property
    def proxies(self) -> list[str]:
        """The trusted proxies as a list of addresses and networks."""
        return _entries(self.trusted_proxies)

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The allowed hosts in lower case."""
        return frozenset(name.lower() for name in _entries(self.allowed_hosts))

    @cached_property
    def content_types(self) -> tuple[str, ...]:
        """The content types that announce an allowed format."""
        return tuple(name for image_format in self.formats for name in IMAGE_TYPES[image_format])


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]
