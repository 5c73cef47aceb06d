"""Draw the README's picture: the example images with the answers that the gate gives them.

python docs/picture.py
"""

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from oodgate.bundle import load_bundle
from oodgate.gate import Gate
from oodgate.offline.predict import predict_paths

DOCS = Path(__file__).parent
COLOURS = {"accept": "#1b7f4b", "reject": "#b3261e"}


def draw(bundle: Path, out: Path, paths: list[Path]) -> None:
    """One row of images, each with its decision, class and p-value."""
    records = predict_paths(Gate(load_bundle(bundle), "cpu"), paths, lambda count: None)
    figure = Figure(figsize=(3.2 * len(paths), 3.4), layout="constrained")
    for axes, path, record in zip(figure.subplots(1, len(paths)), paths, records, strict=True):
        axes.imshow(Image.open(path))
        axes.set_axis_off()
        axes.set_title(record["decision"], color=COLOURS[record["decision"]], fontsize=17, fontweight="bold")
        caption = f"{record['class']} {record['probability']:.0%}, p-value {record['p_value']:.2g}"
        axes.text(0.5, -0.07, caption, transform=axes.transAxes, ha="center", va="top", fontsize=12)
    figure.savefig(out, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    examples = [DOCS / "examples" / f"{name}.jpg" for name in ("cat", "rocket", "gravel")]
    draw(DOCS.parent / "models" / "cifar10-resnet9", DOCS / "answers.png", examples)
