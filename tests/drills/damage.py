"""A drill: a model is reloaded while clients send, and what lies in its folder is damaged in many ways.

    python tests/drills/damage.py

The clients know the right answers. Exit status 1 where one is lost, wrong or late, or where anything but a sound bundle
takes the place of the old one.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from drill import Service, conclude, service
from witnesses import Witnesses, reference_of, small_bundle

from versions import install


def truncated(folder: Path) -> None:
    """The network's file ends in its middle."""
    network = folder / "model.ts"
    network.write_bytes(network.read_bytes()[: network.stat().st_size // 2])


def altered(folder: Path) -> None:
    """One byte of the tensors is another."""
    state = folder / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda folder: (folder / "bundle.json").unlink(),
    "a manifest that is no JSON": lambda folder: (folder / "bundle.json").write_text("{"),
    "an empty manifest": lambda folder: (folder / "bundle.json").write_bytes(b""),
    "no network": lambda folder: (folder / "model.ts").unlink(),
    "half a network": truncated,
    "an altered byte": altered,
    "a folder in place of a file": lambda folder: (
        (folder / "state.safetensors").unlink(),
        (folder / "state.safetensors").mkdir(),
    ),
}


def load(running: Service) -> tuple[int, str]:
    """Ask for a reload; the status, and the version or the problem's code."""
    answer = httpx.post(f"{running.url}/v1/models/tiny/load", timeout=60)
    document = answer.json()
    return answer.status_code, document.get("version") or document.get("code")


def damaged_bundle(work: Path) -> int:
    """Reload what is damaged, again and again; then what is sound."""
    bundles, folder, faults = [small_bundle(work, version) for version in ("1", "2")], work / "tiny", list[str]()
    install(bundles[0], folder)
    with service(folder, allow_reload=True) as running, Witnesses(running.url, reference_of(*bundles)) as witnesses:
        for name, damage in DAMAGES.items():
            replace(bundles[1], folder)
            damage(folder)
            if (found := load(running)) != (422, "load_failed"):
                faults.append(f"{name}: load said {found}")
        versions = {version for version, _ in [served(running)]}
        replace(bundles[1], folder)
        sound = load(running)
    if versions != {"1"} or sound != (200, "2"):
        faults.append(f"version {versions} served after the failures; then load said {sound}")
    faults += witnesses.account.lost
    return conclude(f"{len(DAMAGES)} damaged bundles: {witnesses.account}, then version {sound[1]} loaded", faults)


def served(running: Service) -> tuple[str, str]:
    """Version and name of the model that answers."""
    document = httpx.get(f"{running.url}/v1/model").json()
    return document["version"], document["name"]


def replace(bundle: Path, folder: Path) -> None:
    """A folder with a sound bundle and nothing else."""
    shutil.rmtree(folder)
    install(bundle, folder)


def main() -> int:
    """Run the drill against a service of its own."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with TemporaryDirectory() as folder:
        return damaged_bundle(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
