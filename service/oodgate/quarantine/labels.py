"""What people said of the images, to calibrate on."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from oodgate.errors import QuarantineError
from oodgate.quarantine.archive import INDEX, Archive, open_archive
from oodgate.quarantine.record import Label


@dataclass(frozen=True)
class LabelledImage:
    """An image file, its class where it is in-distribution, and the probability with which such images are kept.

    Rejected images are all kept and accepted ones are sampled: as they are, labelled images are no sample of what
    clients send. Each image stands for 1 / share of them.
    """

    path: Path
    class_name: str | None
    share: float


def is_quarantine(folder: Path) -> bool:
    """Whether a folder is a quarantine's, and not one of images alone."""
    return (folder / INDEX).is_file()


def labelled(folder: Path, label: Label) -> list[LabelledImage]:
    """The images of a local quarantine with this label, sorted by path; raises QuarantineError where it is none."""
    archive = open_archive(str(folder))
    try:
        entries = archive.index.entries(label=label)
    except sqlite3.Error as error:
        raise QuarantineError(f"the quarantine's index in {folder} cannot be read ({error})") from error
    finally:
        archive.close()
    images = (LabelledImage(Path(archive.files.where(entry.name)), entry.class_name, entry.share) for entry in entries)
    return sorted(images, key=lambda image: image.path)


def export(archive: Archive, label: Label, folder: Path) -> int:
    """Copy the images with this label into a folder, those of a class into a subfolder; returns how many.

    Raises QuarantineError where a class cannot name a folder, before anything is copied.
    """
    entries = archive.index.entries(label=label)
    folders = {entry.id: _class_folder(folder, entry.class_name) for entry in entries}
    for entry in entries:
        target = folders[entry.id] / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.files.read(entry.name))
    return len(entries)


def _class_folder(folder: Path, class_name: str | None) -> Path:
    if class_name is None:
        return folder
    if class_name in ("", ".", "..") or set(class_name) & set("/\\\0"):
        raise QuarantineError(f"class '{class_name}' cannot name a folder; give its images another class by `label`")
    return folder / class_name
