"""Where a network, its weights and its preprocessing come from, and what is refused before anything runs."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import TinyNetwork, tiny_bundle
from oodgate.bundle import Bundle, load_bundle, write_bundle
from oodgate.engines import ENGINES, save_network
from oodgate.errors import ExportError
from oodgate.images.preprocess import Preprocessing
from oodgate.model import Model
from oodgate.offline.export import BundleName, ExportPlan, export_bundle
from oodgate.offline.exporting.classes import read_classes
from oodgate.offline.exporting.sources import open_source
from oodgate.offline.exporting.transforms import PRESETS, choose_preprocessing, parse_size
from oodgate.offline.exporting.weights import load_weights, read_weights

CLASSES = ["ant", "bee", "cat", "dog"]
PREPROCESS = "resize=16,crop=16x16,mean=0.5/0.5/0.5,std=0.25/0.25/0.25"

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

def build(num_classes):
    torch.manual_seed(5)
    return Net(num_classes)

def build_untrained(num_classes):
    return Net(num_classes)

def build_four():
    torch.manual_seed(3)
    return Net(4)

def build_nothing():
    return 5

value = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with classes, seeded weights and a user's module."""
    torch.manual_seed(0)
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    save_file(TinyNetwork().state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_module(folder: Path, name: str) -> str:
    (folder / f"{name}.py").write_text(MODULE)  # a name of its own for each test: Python remembers modules
    return name


def export(source: str, weights: str | None = None, out: str = "bundle", **plan: object) -> Bundle:
    settings = ExportPlan(**{"preprocess": PREPROCESS} | plan)  # type: ignore[arg-type]
    return export_bundle(source, weights and Path(weights), Path("classes.json"), Path(out), BundleName("b"), settings)


def answers(bundle: Bundle, pixels: Tensor) -> tuple[Tensor, Tensor]:
    forward = Model(bundle, "cpu").run(pixels)
    return forward.logits, forward.activation


def pixels() -> Tensor:
    return torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def tiny_answers(weights: Path) -> tuple[Tensor, Tensor]:
    network = TinyNetwork()
    load_weights(network, weights)
    with torch.no_grad():
        return network((pixels().permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)


def test_a_users_module_is_exported_on_the_command_line(folder: Path) -> None:
    source = f"{write_module(folder, 'on_the_command_line')}:build"
    arguments = [source, "--weights", "weights.safetensors", "--classes", "classes.json", "--out", "mine"]
    options = ["--input", "3x16x16", "--preprocess", PREPROCESS, "--version", "7"]
    command = [sys.executable, "-m", "oodgate.cli", "export", *arguments, *options]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "activation (8, 4, 4): the answer of relu in the network itself" in ended.stdout
    bundle = load_bundle(folder / "mine")
    assert (bundle.manifest.name, bundle.manifest.version) == ("mine", "7")
    assert bundle.manifest.provenance["source"] == source
    for found, expected in zip(answers(bundle, pixels()), tiny_answers(folder / "weights.safetensors"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_error_of_the_command_line_is_one_sentence(folder: Path) -> None:
    command = [sys.executable, "-m", "oodgate.cli", "export", "resnet18", "--classes", "classes.json", "--out", "mine"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "weights would be random" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_builder_without_arguments_brings_its_own_weights(folder: Path) -> None:
    bundle = export(f"{write_module(folder, 'without_arguments')}:build_four")
    assert bundle.manifest.notices == ()
    assert set(bundle.state) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("build_nothing", "answers int; expected a torch.nn.Module"),
        ("value", "is no function"),
        ("absent", "cannot be imported .*has no attribute 'absent'"),
    ],
)
def test_what_is_no_builder_is_refused(folder: Path, function: str, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        export(f"{write_module(folder, f'no_builder_{function}')}:{function}")
    with pytest.raises(ExportError, match=r"cannot be imported .*No module named 'nowhere'"):
        export("nowhere:build")
    assert str(folder) not in sys.path


def test_a_torchvision_network_takes_the_size_that_is_asked_for() -> None:
    source = open_source("vit_b_32", 2, (64, 64))
    assert source.network(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_timm_that_is_not_installed_is_named_with_its_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ExportError, match=r"pip install 'oodgate\[timm\]'"):
        export("timm:resnet18", random_weights=True)


def test_a_network_that_timm_does_not_have_is_refused() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ExportError, match="timm has no network 'resnet17'"):
        open_source("timm:resnet17", 4, None)


def program_file(path: Path, network: nn.Module) -> None:
    path.write_bytes(ENGINES["export"].save(network.eval(), torch.zeros(2, 3, 16, 16)))


@pytest.mark.parametrize("suffix", [".ts", ".pt", ".pt2"])
def test_a_file_that_answers_both_is_adopted(folder: Path, suffix: str) -> None:
    network = TinyNetwork()
    load_weights(network, folder / "weights.safetensors")
    path = folder / f"network{suffix}"
    if suffix == ".pt2":
        program_file(path, network)
    else:
        path.write_bytes(save_network(network.eval(), torch.zeros(2, 3, 16, 16)))
    bundle = export(str(path))
    assert bundle.manifest.engine == ("export" if suffix == ".pt2" else "torchscript")
    assert set(bundle.state) == {"classifier.weight", "classifier.bias"}
    for found, expected in zip(answers(bundle, pixels()), tiny_answers(folder / "weights.safetensors"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_options_that_a_file_leaves_no_room_for_are_refused(folder: Path) -> None:
    Path("network.ts").write_bytes(save_network(TinyNetwork().eval(), torch.zeros(2, 3, 16, 16)))
    with pytest.raises(ExportError, match="leave --weights out"):
        export("network.ts", "weights.safetensors")
    with pytest.raises(ExportError, match="leave --activation out"):
        export("network.ts", activation="conv")
    with pytest.raises(ExportError, match="runs on torchscript and not on export"):
        export("network.ts", engine="export")


class Bomb:
    """Pickled code: it writes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.marker, "ran"))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_with_code_are_refused_and_never_run(folder: Path, suffix: str, zipped: bool) -> None:
    path, marker = folder / f"weights{suffix}", folder / "ran"
    torch.save({"conv.weight": Bomb(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ExportError, match=r"cannot be read as tensors .*safetensors\.torch\.save_file"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(ExportError, match="cannot be read as tensors"):
        read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".ts", ".pt", ".pt2"])
def test_a_source_with_code_is_refused_and_never_run(folder: Path, suffix: str) -> None:
    path, marker = folder / f"network{suffix}", folder / "ran"
    for zipped in (True, False):
        torch.save(Bomb(marker), path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ExportError, match=r"weights alone go to --weights"):
            export(str(path))
    assert not marker.exists()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_checkpoints_are_unwrapped(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in TinyNetwork().state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "w.pth")
    network = TinyNetwork()
    load_weights(network, tmp_path / "w.pth")
    torch.testing.assert_close(network.fc.weight, state[f"{prefix}fc.weight"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"fc.weight": torch.zeros(4, 9)}, "3 names differ, such as conv.bias"),
        ({"epoch": 3}, "no state dict"),
        ([torch.zeros(2)], "no state dict"),
        ({}, "no state dict"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, content: object, sentence: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ExportError, match=sentence):
        load_weights(TinyNetwork(), tmp_path / "w.pt")


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"absent\.safetensors cannot be read"):
        read_weights(tmp_path / "absent.safetensors")


IMAGENET = PRESETS["imagenet"]


@pytest.mark.parametrize(
    ("wanted", "size", "expected"),
    [
        ("imagenet", None, IMAGENET),
        ("imagenet", (64, 64), IMAGENET.model_copy(update={"resize": 73, "crop": (64, 64)})),
        ("imagenet,interpolation=bicubic", None, IMAGENET.model_copy(update={"interpolation": "bicubic"})),
        ("imagenet,resize=224x224", None, IMAGENET.model_copy(update={"resize": (224, 224)})),
        ("cifar10,resize=40", (32, 32), PRESETS["cifar10"].model_copy(update={"resize": 40})),
        (PREPROCESS, (16, 16), Preprocessing(resize=16, crop=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)),
    ],
)
def test_preprocessing_is_a_preset_or_values(wanted: str, size: tuple[int, int], expected: Preprocessing) -> None:
    assert choose_preprocessing(wanted, None, size) == expected


def test_preprocessing_is_a_file_or_the_networks_own(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(IMAGENET.model_dump_json())
    assert choose_preprocessing(str(tmp_path / "p.json"), None, None) == IMAGENET
    assert choose_preprocessing(None, IMAGENET, None) == IMAGENET
    assert choose_preprocessing(None, IMAGENET, (112, 112)).resize == 128
    squashed = IMAGENET.model_copy(update={"resize": (256, 224)})
    (tmp_path / "s.json").write_text(squashed.model_dump_json())
    assert choose_preprocessing(str(tmp_path / "s.json"), None, None) == squashed
    assert choose_preprocessing(None, squashed, (112, 56)).resize == (128, 56)


@pytest.mark.parametrize(
    ("wanted", "size", "sentence"),
    [
        (None, None, "brings no preprocessing; say with --preprocess"),
        ("mnist", None, "does not know 'mnist'"),
        ("resize=16", None, "'crop': Field required"),
        ("imagenet,resize=100", None, "must lie between 1 and the resized side, 100"),
        ("imagenet,resize=100x256", None, r"must lie between 1 and the resized side, \(100, 256\)"),
        ("imagenet,resize=wide", None, "'resize': Input should be a valid integer"),
        ("imagenet,blur=3", None, "'blur': Extra inputs"),
        ("imagenet,mean=0/0", None, "'mean': Field required"),
        (PREPROCESS, (32, 32), "--input has 32x32 pixels and --preprocess crops to"),
        ("absent.json", None, "cannot be read"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(
    wanted: str | None, size: tuple[int, int] | None, sentence: str
) -> None:
    with pytest.raises(ExportError, match=sentence):
        choose_preprocessing(wanted, None, size)


@pytest.mark.parametrize("text", ["224", "224x224", "1x28x28", "3x0x5", "3x-5x5", "axbxc", ""])
def test_sizes_other_than_of_rgb_images_are_refused(text: str) -> None:
    with pytest.raises(ExportError, match="is not 3xHEIGHTxWIDTH"):
        parse_size(text)


def test_the_bundle_of_the_tests_can_be_exported_again_from_its_file(folder: Path) -> None:
    bundle = tiny_bundle(folder / "tiny")
    (folder / "again.ts").write_bytes(bundle.model)
    again = export("again.ts")
    for found, expected in zip(answers(again, pixels()), answers(bundle, pixels()), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_builder_imports_what_lies_beside_it_when_it_is_called(folder: Path) -> None:
    write_module(folder, "beside_it")
    (folder / "lazy_builder.py").write_text(
        "def build():\n    from beside_it import build_four\n    return build_four()\n"
    )
    assert export("lazy_builder:build").manifest.outputs.logits == (4,)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("def build(needed): ...", r"TypeError: build\(\) missing 1 required .* needs no argument but num_classes"),
        (
            "def build():\n    import not_installed_at_all",
            "ModuleNotFoundError: No module named 'not_installed_at_all'",
        ),
    ],
)
def test_a_builder_that_fails_says_why(folder: Path, function: str, words: str) -> None:
    name = f"failing_{abs(hash(words))}"
    (folder / f"{name}.py").write_text(function)
    with pytest.raises(ExportError, match=words):
        export(f"{name}:build")


def test_a_builder_that_gives_random_weights_is_refused_without_others(folder: Path) -> None:
    source = f"{write_module(folder, 'untrained_module')}:build_untrained"
    with pytest.raises(ExportError, match=r"weights would be random; .*--weights, or load them in the function"):
        export(source)
    assert "random" in " ".join(export(source, random_weights=True).manifest.notices)


def test_a_network_that_decides_about_the_picture_in_python_is_refused(folder: Path) -> None:
    name = "deciding_module"
    decision = "if x.mean() > 1:\n            x = -x\n        return self.fc("
    (folder / f"{name}.py").write_text(MODULE.replace("return self.fc(", decision))
    with pytest.raises(ExportError, match=r"differ by .* from the original's, .* on an `if` about the picture"):
        export(f"{name}:build")


def test_a_calibrated_bundle_is_not_written_over_unasked(folder: Path, bundle_folder: Path) -> None:
    write_bundle(folder / "precious", load_bundle(bundle_folder), {"calibration.md": b"threshold 1.5"})
    source = f"{write_module(folder, 'replacing_module')}:build"
    with pytest.raises(
        ExportError, match=r"precious holds a calibrated bundle, .*; export into another folder, or add"
    ):
        export(source, out="precious")
    assert load_bundle(folder / "precious").manifest.calibration
    (folder / "precious" / "report" / "own.txt").write_text("the owner's")
    export(source, out="precious", replaces=True)
    assert load_bundle(folder / "precious").manifest.calibration is None
    assert [path.name for path in (folder / "precious" / "report").iterdir()] == ["own.txt"]
    export(source, out="precious")


def test_a_network_of_grey_images_is_refused_in_a_sentence(folder: Path) -> None:
    name = write_module(folder, "grey_module")
    (folder / f"{name}.py").write_text(MODULE.replace("nn.Conv2d(3, 8", "nn.Conv2d(1, 8"))
    with pytest.raises(ExportError, match=r"fails on images of the shape \(6, 3, 16, 16\) .* must take RGB images"):
        export(f"{name}:build")


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04", b"\x80\x04."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused_in_a_sentence(folder: Path, content: bytes, suffix: str) -> None:
    (folder / f"junk{suffix}").write_bytes(content)
    with pytest.raises(ExportError, match="cannot be read as tensors"):
        read_weights(folder / f"junk{suffix}")


def test_classes_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "classes.txt").write_bytes("\ufeffant\r\nbee\r\n".encode())
    assert read_classes(folder / "classes.txt").names == ("ant", "bee")


def test_an_export_for_rectangular_images_says_what_it_cuts_off(folder: Path) -> None:
    wide = "resize=16,crop=8x16,mean=0.5/0.5/0.5,std=0.25/0.25/0.25"
    name = write_module(folder, "wide_module")
    (notice,) = (notice for notice in export(f"{name}:build", preprocess=wide).manifest.notices if "centre" in notice)
    assert "16 pixels" in notice
    assert "8 x 16" in notice
    assert "--preprocess resize=8x16" in notice
    assert not any("centre" in notice for notice in export(f"{name}:build", out="square").manifest.notices)
    whole = export(f"{name}:build", out="whole", preprocess=wide.replace("resize=16", "resize=8x16")).manifest
    assert whole.preprocessing.resize == (8, 16)
    assert not any("centre" in notice for notice in whole.notices)
