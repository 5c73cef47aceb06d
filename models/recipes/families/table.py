"""What `oodgate export` finds in each family of networks, and how fast each engine runs it here: a table in Markdown.

    OMP_NUM_THREADS=2 python models/recipes/families/table.py [NAME ...]

Weights are random, images have the size of the family's own preprocessing, speeds are medians at a batch of 8 on the
CPU with the engines in turn. Without names it takes the families of the tests.
"""

import sys
from collections.abc import Mapping

from oodgate.bundle import Engine
from oodgate.offline.exporting.comparison import EngineSpeed, compare_engines
from oodgate.offline.exporting.exposure import expose
from oodgate.offline.exporting.probes import probe_images
from oodgate.offline.exporting.sources import open_source

FAMILIES = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "densenet121",
    "vgg16",
    "vgg16_bn",
    "efficientnet_b0",
    "convnext_tiny",
    "regnet_y_400mf",
    "swin_t",
    "vit_b_16",
)
ENGINES: tuple[Engine, ...] = ("torchscript", "export", "aotinductor")
CLASSES = 1000


def main() -> None:
    print("| network | activation | shape | largest difference | MB | torchscript | export | aotinductor |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or FAMILIES:
        print(row_of(name), flush=True)


def row_of(name: str) -> str:
    source = open_source(name, CLASSES, None)
    if source.preprocessing is None:
        raise SystemExit(f"{name} brings no preprocessing, which says the size of its images")
    size = source.preprocessing.crop
    exposed = expose(source.network.eval().requires_grad_(False), CLASSES, size)
    speeds = compare_engines(exposed.network, size, ENGINES)
    found = exposed.reason.partition(":")[0].removeprefix("the answer of ").removeprefix("the class token's row of ")
    _, activation = exposed.network(probe_images(1, size))
    shape = " x ".join(str(side) for side in activation.shape[1:])
    return f"| {name} | {found} | {shape} | " + " | ".join(cells(speeds)) + " |"


def cells(speeds: Mapping[Engine, EngineSpeed]) -> list[str]:
    difference = max(speed.difference for speed in speeds.values())
    rates = [f"{speeds[name].images_per_second:.1f}" if name in speeds else "fails" for name in ENGINES]
    return [f"{difference:.0e}", f"{speeds['torchscript'].megabytes:.0f}", *rates]


if __name__ == "__main__":
    main()
