from pathlib import Path

import pytest

from conftest import encoded, random_picture
from oodgate.errors import CalibrationError
from oodgate.offline.dataset import ImageFolder
from oodgate.offline.splits import Folders, Splits, split, with_more


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """Fifty images in two classes."""
    for index in range(50):
        path = tmp_path / "known" / ("ant" if index % 2 else "bee") / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(random_picture(index)))
    return tmp_path / "known"


def sizes(splits: Splits) -> list[int]:
    return [0 if part is None else len(part) for part in (splits.fit, splits.search, splits.calibrate)]


def test_one_folder_is_cut_into_three_disjoint_parts_that_hold_everything(known: Path) -> None:
    splits = split(Folders(known), ("ant", "bee"), fits=True, searches=True)
    assert sizes(splits) == [20, 10, 20]
    parts = [part for part in (splits.fit, splits.search, splits.calibrate) if part]
    assert len({path for part in parts for path in part.paths}) == 50


def test_labels_follow_their_images(known: Path) -> None:
    part = split(Folders(known), ("ant", "bee"), fits=True, searches=True).calibrate
    assert part.labels == tuple(("ant", "bee").index(path.parent.name) for path in part.paths)


def test_what_is_not_needed_takes_no_images(known: Path) -> None:
    assert sizes(split(Folders(known), (), fits=False, searches=False)) == [0, 0, 50]
    assert sizes(split(Folders(known), (), fits=False, searches=True)) == [0, 17, 33]


def test_the_seed_decides_the_cut(known: Path) -> None:
    first, again, other = (split(Folders(known, seed=seed), (), True, True).calibrate.paths for seed in (0, 0, 1))
    assert first == again != other


def test_a_folder_of_its_own_is_used_whole(known: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "x.png").write_bytes(encoded(random_picture(99)))
    splits = split(Folders(known, fit=tmp_path / "train"), (), fits=True, searches=True)
    assert sizes(splits) == [1, 17, 33]


def test_folders_that_share_images_are_refused(known: Path) -> None:
    with pytest.raises(CalibrationError, match="share no image"):
        split(Folders(known, fit=known / "ant"), (), fits=True, searches=False)


def test_more_images_join_the_calibration_and_keep_their_labels_only_where_all_have_some(
    known: Path, tmp_path: Path
) -> None:
    splits = split(Folders(known), ("ant", "bee"), fits=True, searches=False)
    (tmp_path / "x.png").write_bytes(encoded(random_picture(99)))
    more = with_more(splits, ImageFolder((tmp_path / "x.png",), (1,)))
    assert more.calibrate.paths == (*splits.calibrate.paths, tmp_path / "x.png")
    assert more.calibrate.labels == (*(splits.calibrate.labels or ()), 1)
    assert (more.fit, more.search) == (splits.fit, splits.search)
    assert with_more(splits, ImageFolder((tmp_path / "x.png",), None)).calibrate.labels is None


@pytest.mark.parametrize("part", ["fit", "search", "calibrate"])
def test_no_image_is_added_that_has_been_used(known: Path, part: str) -> None:
    splits = split(Folders(known), (), fits=True, searches=True)
    with pytest.raises(CalibrationError, match=r"1 images, .* share no image"):
        with_more(splits, getattr(splits, part).take([0]))
