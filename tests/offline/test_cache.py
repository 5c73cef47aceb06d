"""What was computed of images is found again, and what is damaged is computed anew."""

from pathlib import Path

import pytest
import torch

from oodgate.offline.cache import Cache


def test_tensors_are_found_under_their_key_and_identity_alone(tmp_path: Path) -> None:
    Cache(tmp_path, "network").keep("images", {"scores": torch.arange(3)})
    found = Cache(tmp_path, "network").find("images")
    assert found is not None
    assert found["scores"].tolist() == [0, 1, 2]
    assert Cache(tmp_path, "network").find("others") is None
    assert Cache(tmp_path, "another").find("images") is None


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None, "network")
    cache.keep("images", {"scores": torch.arange(3)})
    assert cache.find("images") is None


@pytest.mark.parametrize("left", [0, 5, 60])
def test_a_damaged_entry_is_none(tmp_path: Path, left: int) -> None:
    cache = Cache(tmp_path, "network")
    cache.keep("images", {"scores": torch.arange(300)})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:left])
    assert cache.find("images") is None
