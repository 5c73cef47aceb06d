"""Settings: where they come from and what they refuse."""

import os
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from oodgate.settings import IMAGE_TYPES, Settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OODGATE_ variable of the machine reaches a test."""
    for name in [name for name in os.environ if name.upper().startswith("OODGATE_")]:
        monkeypatch.delenv(name)


def test_defaults_are_valid_and_local() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.device, settings.precision) == ("auto", "float32")
    assert Settings.model_validate(settings.model_dump()) == settings


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_read_from_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {
        "device": "cpu",
        "acceleration": "openvino",
        "decoding": "device",
        "precision": "float16",
        "log_format": "json",
        "log_level": "error",
    }
    others |= {
        "allow_reload": "true",
        "bundle": "elsewhere",
        "host": "::1",
        "image_formats": "png",
        "drift_false_alarms": "0.5",
        "quarantine_accepted_share": "0.5",
        "docs": "false",
        "trusted_proxies": "10.0.0.0/8,::1",
    }
    value = others.get(name, "7")
    monkeypatch.setenv(f"OODGATE_{name.upper()}", value)
    found = getattr(Settings(), name)
    assert found == (value == "true" if isinstance(found, bool) else type(found)(value))
    assert found != Settings.model_fields[name].default


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")


def test_an_argument_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODGATE_PORT", "9000")
    assert Settings(port=9001).port == 9001


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Settings(max_batches=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("port", (-1, 65536)),
        ("admin_port", (-1, 65536)),
        ("docs", ("perhaps",)),
        ("trusted_proxies", ("proxy", "*", "10.0.0.1/8", "10.0.0.1;10.0.0.2")),
        ("allowed_hosts", ("a.org:80", "https://a.org", "*", "*.", "a.*.org", "a b")),
        ("threads", (-1, 1025)),
        ("max_batch", (-1, 4097)),
        ("max_wait_ms", (-1, 10_001, float("nan"))),
        ("max_queue", (0, 1_000_001)),
        ("deadline_ms", (0, -5, 600_001, float("nan"), float("inf"))),
        ("drain_delay_ms", (-1, 600_001)),
        ("drain_timeout_ms", (-1, 600_001)),
        ("max_bytes", (0,)),
        ("max_pixels", (0,)),
        ("max_files", (0, 4097)),
        ("max_request_bytes", (0,)),
        ("decode_threads", (-1, 257)),
        ("drift_false_alarms", (0, 1, float("nan"))),
        ("drift_client_rate", (-1, 0.5)),
        ("quarantine_bytes", (0,)),
        ("quarantine_age_days", (-1, float("nan"))),
        ("quarantine_accepted_share", (-0.1, 1.1, float("nan"))),
        ("device", ("gpu", "")),
        ("precision", ("float64",)),
        ("allow_reload", ("perhaps",)),
        ("log_format", ("xml",)),
        ("log_level", ("loud",)),
    ],
)
def test_values_out_of_range_are_refused_by_the_name_of_their_setting(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(ValidationError, match=name):
            Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_means_not_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"OODGATE_{name.upper()}", "")
    assert getattr(Settings(), name) == Settings.model_fields[name].default
    assert name not in Settings().model_fields_set


def test_hosts_and_proxies_are_lists() -> None:
    settings = Settings(allowed_hosts=" A.org, *.b.org,[::1]", trusted_proxies="10.0.0.1, ::1")
    assert settings.hosts == {"a.org", "*.b.org", "[::1]"}
    assert settings.proxies == ["10.0.0.1", "::1"]
    assert not Settings().hosts
    assert not Settings().proxies


def test_formats_are_a_list_in_the_order_given() -> None:
    settings = Settings(image_formats="webp,png")
    assert settings.formats == ("webp", "png")
    assert settings.content_types == ("image/webp", "image/png", "image/x-png", "image/apng")


def test_all_formats_are_allowed_by_default() -> None:
    assert Settings().formats == tuple(IMAGE_TYPES)
    assert {"image/jpeg", "image/png", "image/webp", "image/gif"} < set(Settings().content_types)


@pytest.mark.parametrize("formats", ["", "jpeg,", "svg", "jpeg, png", "JPEG", "jpeg;png"])
def test_unknown_formats_are_refused_with_those_to_choose_from(formats: str) -> None:
    with pytest.raises(ValidationError, match=r"unknown format .*; choose from jpeg, png, webp, gif, bmp, tiff"):
        Settings(image_formats=formats)


def test_every_format_has_a_decoder_and_announces_itself_with_one_type() -> None:
    Image.init()
    assert {name.upper() for name in IMAGE_TYPES} <= set(Image.OPEN)
    types = [name for names in IMAGE_TYPES.values() for name in names]
    assert len(set(types)) == len(types)


def test_the_bundle_is_served_where_it_is_given_and_where_no_folder_of_bundles_is() -> None:
    folder = Path("models")
    assert Settings().serves_bundle
    assert Settings(bundle=Settings().bundle, models=folder).serves_bundle
    assert not Settings(models=folder).serves_bundle


def test_default_bundle_is_one_of_the_repository() -> None:
    assert Settings().bundle.parts[0] == "models"
    assert not Settings().bundle.is_absolute()


@pytest.mark.parametrize("name", ["workers", "threads", "max_batch", "decode_threads"])
def test_auto_leaves_a_number_to_the_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"OODGATE_{name.upper()}", "auto")
    assert getattr(Settings(), name) == getattr(Settings(**{name: "auto"}), name) == 0
    monkeypatch.setenv(f"OODGATE_{name.upper()}", "3")
    assert getattr(Settings(), name) == 3
