"""What is known of an image."""

import pytest
from PIL import features

from conftest import encoded, random_picture
from oodgate.quarantine.record import Entry, suffix_of
from quarantined import record


@pytest.mark.parametrize(
    ("image_format", "suffix"),
    [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif")],
)
def test_the_suffix_is_that_of_the_bytes(image_format: str, suffix: str) -> None:
    if image_format == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow writes no WebP")
    assert suffix_of(encoded(random_picture(0), image_format)) == suffix


@pytest.mark.parametrize("data", [b"", b"RIFF", b"text"])
def test_bytes_of_no_known_format_get_a_neutral_suffix(data: bytes) -> None:
    assert suffix_of(data) == ".bin"


def test_the_document_of_an_entry_is_flat_and_has_times_for_people() -> None:
    entry = Entry("ab12", ".png", 3, 0.0, 2, 0.5, "in", "dog", record(86_400.5))
    assert entry.name == "ab12.png"
    assert entry.as_dict() == {
        "id": "ab12",
        "bytes": 3,
        "first_seen": "1970-01-01T00:00:00+00:00",
        "count": 2,
        "time": "1970-01-02T00:00:00+00:00",
        "model": "tiny",
        "version": "1",
        "decision": "reject",
        "score": -1.5,
        "p_value": 0.01,
        "predicted": "cat",
        "probability": 0.75,
        "request_id": "abc-1",
        "client": "5f2c",
        "share": 0.5,
        "label": "in",
        "class": "dog",
    }
