"""Images that people labelled after the service had seen them, to join a calibration."""

from pathlib import Path

import numpy as np

from oodgate.errors import CalibrationError
from oodgate.offline.dataset import ImageFolder, list_images
from oodgate.quarantine.labels import LabelledImage, is_quarantine, labelled


def added_images(folder: Path, classes: tuple[str, ...], seed: int) -> ImageFolder:
    """The images below a folder, or those that were labelled in-distribution in a quarantine.

    A quarantine keeps all rejected images and a share of the accepted ones. Its rejected images are thinned to that
    share, so that what joins is a sample of what clients send: all of them would pull the threshold down. Raises
    CalibrationError where no accepted image is labelled, or one as a class that the bundle does not have.
    """
    if not is_quarantine(folder):
        return list_images(folder, classes)
    images = labelled(folder, "in")
    least = min((image.share for image in images), default=1.0)
    if not images or least == 1.0:
        raise CalibrationError(
            f"the quarantine {folder} has {len(images)} images labelled in-distribution, and none of them was "
            "accepted; rejected images alone would lower the threshold by design. Keep a share of the accepted ones "
            "(OODGATE_QUARANTINE_ACCEPTED_SHARE) and label some of both"
        )
    return _with_labels(_thinned(images, least, seed), classes)


def _thinned(images: list[LabelledImage], share: float, seed: int) -> list[LabelledImage]:
    chances = np.random.default_rng(seed).random(len(images))
    return [image for image, chance in zip(images, chances, strict=True) if chance < share / image.share]


def _with_labels(images: list[LabelledImage], classes: tuple[str, ...]) -> ImageFolder:
    indices = {name: index for index, name in enumerate(classes)}
    if unknown := [image for image in images if image.class_name not in indices]:
        raise CalibrationError(
            f"{len(unknown)} images of the quarantine, such as {unknown[0].path.name}, are labelled "
            f"'{unknown[0].class_name}' or otherwise as no class of the bundle; label them again, in with the name of "
            "a class or out"
        )
    return ImageFolder(tuple(image.path for image in images), tuple(indices[str(image.class_name)] for image in images))
