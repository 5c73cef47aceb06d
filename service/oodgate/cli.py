"""The commands. They parse, call and print; what they do lies in `api` and `offline`."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from oodgate.errors import OodgateError
from oodgate.settings import Device, Precision, Settings

app = typer.Typer(
    name="oodgate",
    help="A gate in front of an image classifier: classes, an out-of-distribution score, accept or reject.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


def main() -> None:
    """Run a command; an error on purpose is one sentence on standard error and exit status 2."""
    try:
        app()
    except OodgateError as error:
        err.print(f"oodgate: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def options_of_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**options` one option for each setting, with the setting's help and variable."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                field.annotation | None,  # type: ignore[operator]
                typer.Option(help=f"{field.description} [env: OODGATE_{name.upper()}] [default: {field.default}]"),
            ],
        )
        for name, field in Settings.model_fields.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


@app.command()
@options_of_settings
def serve(**options: Any) -> None:
    """Serve a bundle over HTTP until a signal comes."""
    from oodgate.api.server import serve as serve_until_signal

    serve_until_signal(read_settings(options))


@app.command()
def export(
    backbone: Annotated[str, typer.Argument(help="A network of the catalogue, such as densenet-bc-100-12.")],
    weights: Annotated[Path, typer.Option(help="Weights as safetensors.")],
    classes: Annotated[Path, typer.Option(help="Class names in the order of the logits: JSON list, or one a line.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    name: Annotated[str, typer.Option(help="Name of the bundle; its folder's name if not given.")] = "",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    provenance: Annotated[
        Path | None, typer.Option(help="JSON file on where the network came from, kept in the bundle.")
    ] = None,
) -> None:
    """Turn a trained network into a bundle."""
    from oodgate.offline.export import BundleName, export_bundle

    called = BundleName(name or out_folder.resolve().name, version, provenance)
    bundle = export_bundle(backbone, weights, classes, out_folder, called)
    outputs = bundle.manifest.outputs
    out.print(f"{out_folder}: logits {outputs.logits}, activation {outputs.activation}; calibrate it next")


@app.command()
def calibrate(
    bundle_folder: BundleArgument,
    id_folder: Annotated[Path, typer.Option("--id", help="Folder of in-distribution images that training never saw.")],
    scorer: Annotated[str, typer.Option(help="The score that decides.")] = "nap-energy",
    w: Annotated[float, typer.Option(min=0, max=1, help="Weight of the other score against NAP.")] = 0.4,
    guarantee: Annotated[str, typer.Option(help="pac or marginal.")] = "pac",
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of in-distribution images to reject.")] = 0.05,
    delta: Annotated[float, typer.Option(min=1e-9, max=0.5, help="Chance that a PAC threshold misses it.")] = 0.05,
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Number format of the forward.")] = "float32",
    check_precision: Annotated[
        Precision | None, typer.Option(help="Also check that this number format decides alike.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score in-distribution images and write threshold and guarantee into the bundle."""
    from oodgate.bundle import Scorer, load_bundle, write_bundle
    from oodgate.offline import calibrate as calibration
    from oodgate.offline.dataset import list_images
    from oodgate.scores.registry import needs_w

    if guarantee not in ("pac", "marginal"):
        raise typer.BadParameter(f"'{guarantee}' is neither pac nor marginal", param_hint="--guarantee")
    bundle = load_bundle(bundle_folder)
    images = list_images(id_folder)
    plan = calibration.CalibrationPlan(
        scorer=Scorer(name=scorer, w=w if needs_w(scorer) else None),
        kind=guarantee,  # type: ignore[arg-type]
        alpha=alpha,
        delta=delta,
        device=device,
        precision=precision,
        check_precision=check_precision,
    )
    with progress_bar("calibrate", len(images) * (2 if check_precision else 1)) as advance:
        calibrated = calibration.calibrate(bundle, images, plan, advance)
    write_bundle(bundle_folder, calibrated.bundle)
    record = calibrated.bundle.calibration.model_dump(mode="json")
    record["thresholds"] = {kind: threshold.value for kind, threshold in calibrated.thresholds.items()}
    record["clamped_images"] = calibrated.clamped
    if as_json:
        print_json(record)
        return
    out.print(f"{scorer}, w {w}: threshold {record['threshold']:.6g} ({guarantee}), {len(images)} images")
    out.print(f"thresholds: {record['thresholds']}; clamped images: {calibrated.clamped}")
    for name, check in record["precision_checks"].items():
        out.print(f"{name}: changes {check['changed_decisions']:.2%} of the decisions")


@app.command()
def evaluate(
    bundle_folder: BundleArgument,
    id_folder: Annotated[Path, typer.Option("--id", help="Folder of in-distribution images, sorted into classes.")],
    ood: Annotated[list[str], typer.Option(metavar="NAME=FOLDER", help="A set of strange images; repeatable.")],
    scorers: Annotated[str, typer.Option(help="Names separated by commas, or all.")] = "all",
    device: DeviceOption = "auto",
    save: Annotated[bool, typer.Option("--save", help="Write the measures into the bundle.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure FPR95, AUROC and AUPR of the scores on sets of strange images."""
    from oodgate.bundle import load_bundle, write_bundle
    from oodgate.offline import evaluate as evaluation
    from oodgate.offline.dataset import list_images
    from oodgate.scores.registry import usable_scorers

    bundle = load_bundle(bundle_folder)
    folders = dict(parse_set(entry) for entry in ood)
    own = bundle.calibration.scorer
    names = usable_scorers(own.w, bundle.state) if scorers == "all" else tuple(scorers.split(","))
    total = sum(len(list_images(folder)) for folder in (id_folder, *folders.values()))
    with progress_bar("evaluate", total) as advance:
        result = evaluation.evaluate(bundle, id_folder, folders, names, device, advance)
    if save:
        from dataclasses import replace

        manifest = bundle.manifest.model_copy(update={"measures": result.as_dict()})
        write_bundle(bundle_folder, replace(bundle, manifest=manifest))
    if as_json:
        print_json(result.as_dict())
        return
    print_evaluation(result)


@app.command()
def predict(
    bundle_folder: BundleArgument,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Image files or folders of them.")],
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Judge image files without a server, by the same code."""
    from oodgate.bundle import load_bundle
    from oodgate.gate import Gate
    from oodgate.offline.predict import predict_paths

    bundle = load_bundle(bundle_folder)
    gate = Gate(bundle, device, bundle.calibration.precision)
    with progress_bar("predict", None) as advance:
        records = predict_paths(gate, paths, advance)
    if as_json:
        print_json({"results": records})
        return
    table = Table(Column("file", overflow="fold"), "decision", "class", "probability", "score", "p-value")
    for record in records:
        numbers = (f"{record[key]:.4g}" for key in ("probability", "score", "p_value"))
        table.add_row(record["path"], record["decision"], record["class"], *numbers)
    out.print(table)


@app.command("inspect")
def inspect_bundle(bundle_folder: BundleArgument) -> None:
    """Verify a bundle and print its manifest as JSON."""
    from oodgate.bundle import load_bundle
    from oodgate.model import Model

    bundle = load_bundle(bundle_folder)
    Model(bundle, "cpu")
    print_json(bundle.manifest.model_dump(mode="json"))


def read_settings(options: dict[str, Any]) -> Settings:
    """Settings from the options that were given and the environment; raises a usage error naming the wrong one."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        hint = f"--{name.replace('_', '-')} / OODGATE_{name.upper()}"
        raise typer.BadParameter(first["msg"], param_hint=hint) from error


def parse_set(entry: str) -> tuple[str, Path]:
    """NAME=FOLDER."""
    name, separator, folder = entry.partition("=")
    if not (name and separator and folder):
        raise typer.BadParameter(f"'{entry}' is not NAME=FOLDER", param_hint="--ood")
    return name, Path(folder)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; yields what advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.update(task, advance=count)


def print_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(record, indent=1, ensure_ascii=False))


def print_evaluation(result: Any) -> None:
    """The measures as a table."""
    accuracy = "no labels" if result.accuracy is None else f"{result.accuracy:.2f} %"
    out.print(f"{result.images} in-distribution images, accuracy {accuracy}")
    table = Table("set", "scorer", "FPR95", "AUROC", "AUPR", title="percent; in-distribution is positive")
    for name, rows in {**result.sets, "mean": result.mean}.items():
        for scorer, row in rows.items():
            table.add_row(name, scorer, *(f"{value:.2f}" for value in (row.fpr95, row.auroc, row.aupr)))
    out.print(table)
    out.print("accepted: " + ", ".join(f"{name} {share:.2f} %" for name, share in result.accepted.items()))


if __name__ == "__main__":
    main()
