from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import encoded, random_picture
from oodgate.errors import CalibrationError
from oodgate.images.opening import HostOpener
from oodgate.images.preprocess import Preprocessing, preprocess
from oodgate.offline.dataset import list_images, read_batches, read_images

PREPROCESSING = Preprocessing(resize=16, crop=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def write_picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(random_picture(seed)))
    return path


def test_images_are_found_below_the_folder_and_sorted(tmp_path: Path) -> None:
    wanted = [write_picture(tmp_path / name) for name in ("b.png", "a/z.PNG", "a/y.png")]
    (tmp_path / "notes.txt").write_text("no image")
    assert list_images(tmp_path).paths == tuple(sorted(wanted))


def test_folders_named_after_classes_give_labels(tmp_path: Path) -> None:
    for name in ("cat/1.png", "ant/1.png", "cat/2.png"):
        write_picture(tmp_path / name)
    assert list_images(tmp_path, ("ant", "bee", "cat")).labels == (0, 2, 2)


def test_one_foreign_folder_means_no_labels(tmp_path: Path) -> None:
    for name in ("cat/1.png", "zebra/1.png"):
        write_picture(tmp_path / name)
    assert list_images(tmp_path, ("ant", "cat")).labels is None


def test_a_folder_without_images_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=f"no image below {tmp_path}"):
        list_images(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(CalibrationError, match=r"bad\.png"):
        read_images([write_picture(tmp_path / "good.png"), tmp_path / "bad.png"], HostOpener(PREPROCESSING))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_all_damaged_files_are_named_at_once(tmp_path: Path, size: int) -> None:
    paths = [write_picture(tmp_path / f"{index:02d}.png", index) for index in range(60)]
    for path in paths[5::2]:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CalibrationError, match="28 here: ") as raised:
        list(read_batches(paths, HostOpener(PREPROCESSING), size))
    assert [path.name in str(raised.value) for path in paths[:48]] == 5 * [False] + [True, False] * 20 + 3 * [False]
    assert str(raised.value).endswith("; and 8 more")


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_hold_every_image_once_in_order(tmp_path: Path, size: int) -> None:
    paths = [write_picture(tmp_path / f"{index}.png", index) for index in range(7)]
    batches = list(read_batches(paths, HostOpener(PREPROCESSING), size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    expected = [preprocess(np.array(Image.open(path)), PREPROCESSING) for path in paths]
    np.testing.assert_array_equal(torch.cat(batches).numpy(), expected)


def test_a_folder_with_the_name_of_an_image_is_none(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "cat.png" / "1.png")
    assert list_images(tmp_path).paths == (picture,)
