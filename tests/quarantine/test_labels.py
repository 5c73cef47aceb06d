"""What people said, to calibrate on."""

from pathlib import Path

import pytest

from oodgate.errors import QuarantineError
from oodgate.offline.dataset import list_images
from oodgate.quarantine.archive import Archive
from oodgate.quarantine.labels import LabelledImage, export, is_quarantine, labelled
from quarantined import kept, png


def said(folder: Path) -> Archive:
    """Four images: two in, one out, one without a label."""
    archive = kept(folder, 1, 2, 3, 4)
    _, third, second, first = archive.index.entries()
    archive.label(first, "in", "dog")
    archive.label(second, "in", None)
    archive.label(third, "out", None)
    return archive


def test_labelled_images_come_with_class_and_share(tmp_path: Path) -> None:
    said(tmp_path)
    found = labelled(tmp_path, "in")
    assert {image.path.read_bytes(): image.class_name for image in found} == {png(1): "dog", png(2): "cat"}
    assert [image.path for image in found] == sorted(image.path for image in found)
    (out,) = labelled(tmp_path, "out")
    assert out == LabelledImage(out.path, None, 1.0)
    assert out.path.read_bytes() == png(3)


def test_a_quarantine_is_told_from_a_folder_of_images(tmp_path: Path, image_folder: Path) -> None:
    said(tmp_path)
    assert (is_quarantine(tmp_path), is_quarantine(image_folder)) == (True, False)
    with pytest.raises(QuarantineError, match="there is no quarantine"):
        labelled(image_folder, "in")


def test_exported_images_lie_in_folders_of_their_classes(tmp_path: Path) -> None:
    archive = said(tmp_path / "kept")
    assert export(archive, "in", tmp_path / "in") == 2
    found = list_images(tmp_path / "in", ("ant", "cat", "dog"))
    assert found.labels == (1, 2)
    assert [path.read_bytes() for path in found.paths] == [png(2), png(1)]


def test_exported_images_that_are_out_lie_in_the_folder_itself(tmp_path: Path) -> None:
    archive = said(tmp_path / "kept")
    for _ in range(2):
        assert export(archive, "out", tmp_path / "out") == 1
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [png(3)]


@pytest.mark.parametrize("class_name", ["..", ".", "../outside", "a/b", "a\\b", "a\0b"])
def test_a_class_that_cannot_name_a_folder_is_one_sentence_and_nothing_is_copied(
    tmp_path: Path, class_name: str
) -> None:
    archive = said(tmp_path / "kept")
    archive.label(archive.index.entries()[0], "in", class_name)
    with pytest.raises(QuarantineError, match="cannot name a folder"):
        export(archive, "in", tmp_path / "in")
    assert not (tmp_path / "in").exists()
