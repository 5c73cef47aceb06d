"""Generated files are of the announced kind and size; files of the operator are found."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import encoded, random_picture
from oodgate.bench.pictures import FILES, PHOTOGRAPH, files_for, mean_bytes, photographs, read_files, thumbnails
from oodgate.bundle import load_bundle
from oodgate.errors import SetupError
from oodgate.settings import Settings


def test_photographs_are_jpeg_files_of_about_100_kilobytes() -> None:
    files = photographs(*PHOTOGRAPH, 2)
    for file in files:
        with Image.open(BytesIO(file.data)) as image:
            assert (image.format, image.size, file.content_type) == ("JPEG", PHOTOGRAPH, "image/jpeg")
    assert 80_000 < mean_bytes(files) < 120_000


def test_generated_files_are_seeded_and_differ() -> None:
    first, second = thumbnails(2)
    assert [first, second] == thumbnails(2)
    assert first != second
    with Image.open(BytesIO(first.data)) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (32, 32), "RGB")
        assert np.asarray(image).std() > 20


def test_large_pictures_have_the_size_that_was_asked_for() -> None:
    (file,) = photographs(2048, 1536, 1)
    with Image.open(BytesIO(file.data)) as image:
        assert image.size == (2048, 1536)


def test_small_networks_are_sent_thumbnails(bundle_folder: Path) -> None:
    files = files_for(load_bundle(bundle_folder).manifest, None, Settings())
    assert len(files) == FILES
    assert {file.content_type for file in files} == {"image/png"}


def test_files_of_a_folder_or_pattern_are_sent_with_their_type(tmp_path: Path) -> None:
    picture = random_picture(0)
    (tmp_path / "below").mkdir()
    (tmp_path / "a.JPG").write_bytes(encoded(picture, "JPEG"))
    (tmp_path / "below" / "b.png").write_bytes(encoded(picture))
    (tmp_path / "notes.txt").write_text("no image")
    assert [file.content_type for file in read_files(str(tmp_path), Settings())] == ["image/jpeg", "image/png"]
    assert [file.data for file in read_files(f"{tmp_path}/*/*.png", Settings())] == [encoded(picture)]


@pytest.mark.parametrize("where", ["", "nothing", "*.txt"])
def test_no_file_is_the_operator_s_mistake(where: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no image file"):
        read_files(str(tmp_path / where), Settings())


def test_a_file_that_the_service_would_refuse_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(SetupError, match=r"broken\.png: the bytes are not an image"):
        read_files(str(tmp_path), Settings())
