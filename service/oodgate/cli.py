"""The commands. They parse, call and print; what they do lies in `api` and `offline`."""

import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.table import Column, Table

from oodgate.console import err, out, print_calibration, print_evaluation, print_json, progress_bar
from oodgate.errors import OodgateError
from oodgate.options import (
    BundleArgument,
    CacheOption,
    DeviceOption,
    JsonOption,
    options_of_settings,
    parse_set,
    parse_setting,
    parse_w,
    read_settings,
)
from oodgate.settings import Precision

app = typer.Typer(
    name="oodgate",
    help="A gate in front of an image classifier: classes, an out-of-distribution score, accept or reject.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run a command; an error on purpose is one sentence on standard error and exit status 2."""
    try:
        app()
    except OodgateError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        fail(f"this command needs packages that serving does not ({error}); run `pip install 'oodgate[offline]'`")


def fail(sentence: str) -> NoReturn:
    """Print a sentence on standard error and exit."""
    err.print(f"oodgate: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)


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
    fit: Annotated[
        Path | None, typer.Option(help="Training images, for scores that are fitted; else cut out of --id.")
    ] = None,
    search: Annotated[
        Path | None, typer.Option(help="In-distribution images to search on; else cut out of --id.")
    ] = None,
    scorer: Annotated[str, typer.Option(help="The score that decides, or auto.")] = "nap-energy",
    w: Annotated[
        str | None,
        typer.Option(help="Weight of the other score against NAP, 0 to 1, or search; 0.4, and search with auto."),
    ] = None,
    guarantee: Annotated[Literal["pac", "marginal"], typer.Option(help="What the threshold promises.")] = "pac",
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of in-distribution images to reject.")] = 0.05,
    delta: Annotated[float, typer.Option(min=1e-9, max=0.5, help="Chance that a PAC threshold misses it.")] = 0.05,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of a score; repeatable.")
    ] = None,
    bank_size: Annotated[int, typer.Option(min=1, help="Most training images that KNN keeps.")] = 10_000,
    search_images: Annotated[int, typer.Option(min=1, help="Most images to search on.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Decides splits and pseudo-OOD images.")] = 0,
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Number format of the forward.")] = "float32",
    check_precision: Annotated[
        Precision | None, typer.Option(help="Also check that this number format decides alike.")
    ] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit, search scorer and w where asked to, and write threshold and guarantee into the bundle."""
    from oodgate.bundle import load_bundle, write_bundle
    from oodgate.offline.account import account_of, inverted_families, report_of, with_evidence
    from oodgate.offline.calibrate import CalibrationPlan
    from oodgate.offline.calibrate import calibrate as calibrate_bundle
    from oodgate.offline.prepare import AUTO, ScorerPlan, prepare
    from oodgate.offline.splits import Folders, split

    bundle = load_bundle(bundle_folder)
    open_plan = ScorerPlan(
        scorer=scorer,
        w=parse_w(w or ("search" if scorer == AUTO else "0.4")),
        parameters=dict(parse_setting(entry) for entry in settings or ()),
        bank_size=bank_size,
        search_images=search_images,
        seed=seed,
        device=device,
        precision=precision,
        cache=cache,
    )
    searches = open_plan.chooses or open_plan.compares
    folders = Folders(id_folder, fit, search, seed)
    splits = split(folders, bundle.manifest.classes, fits=bool(open_plan.methods_to_fit), searches=searches)
    prepared = prepare(bundle, splits, open_plan, progress_bar)
    plan = CalibrationPlan(prepared.scorer, guarantee, alpha, delta, device, precision, check_precision, cache)
    with progress_bar("calibrate", len(splits.calibrate) * (2 if check_precision else 1)) as advance:
        calibrated = calibrate_bundle(prepared.bundle, splits.calibrate, plan, advance)
    record = account_of(prepared, calibrated)
    write_bundle(bundle_folder, with_evidence(calibrated.bundle, prepared), report_of(record))
    if as_json:
        print_json(record)
        return
    print_calibration(record)
    if inverted := inverted_families(record):
        err.print(f"warning: NAP is inverted on {', '.join(inverted)}", style="yellow")


@app.command()
def evaluate(
    bundle_folder: BundleArgument,
    id_folder: Annotated[Path, typer.Option("--id", help="Folder of in-distribution images, sorted into classes.")],
    ood: Annotated[list[str], typer.Option(metavar="NAME=FOLDER", help="A set of strange images; repeatable.")],
    scorers: Annotated[str, typer.Option(help="Names separated by commas, or all.")] = "all",
    device: DeviceOption = "auto",
    cache: CacheOption = None,
    report_folder: Annotated[Path | None, typer.Option("--out", help="Folder for tables and the HTML report.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Write the measures into the bundle.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure FPR95, AUROC and AUPR of the scores on sets of strange images."""
    from oodgate.bundle import load_bundle, write_bundle
    from oodgate.offline import evaluate as evaluation
    from oodgate.offline.dataset import list_images
    from oodgate.offline.features import Extractor
    from oodgate.offline.report import write_report, write_tables
    from oodgate.offline.summary import summarise
    from oodgate.scores.registry import usable_scorers

    bundle = load_bundle(bundle_folder)
    own, precision = bundle.calibration.scorer, bundle.calibration.precision
    names = usable_scorers(own.w, bundle.state) if scorers == "all" else tuple(scorers.split(","))
    folders = {evaluation.KNOWN: id_folder, **dict(parse_set(entry) for entry in ood)}
    images = {name: list_images(folder, bundle.manifest.classes) for name, folder in folders.items()}
    extractor = Extractor(bundle, {*names, own.name}, own.parameters, device, precision, cache)
    with progress_bar("evaluate", sum(len(found) for found in images.values())) as advance:
        result = evaluation.evaluate(bundle, extractor, images, names, advance)
    if save:
        measures = {**bundle.manifest.measures, **result.as_dict()}
        manifest = bundle.manifest.model_copy(update={"measures": measures})
        write_bundle(bundle_folder, replace(bundle, manifest=manifest))
    if report_folder:
        data = summarise(bundle, extractor.model, result)
        write_tables(data, report_folder)
        write_report(data, report_folder, shlex.join(["oodgate", *sys.argv[1:]]))
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


@app.command()
def bench(
    bundle_folder: BundleArgument,
    scores: Annotated[bool, typer.Option("--scores", help="What every score costs beside the forward.")] = False,
    images: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Turns; medians are printed.")] = 30,
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Number format of the forward.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Measure speed on this machine."""
    from oodgate.bundle import load_bundle
    from oodgate.offline.bench import measure_costs

    if not scores:
        raise typer.BadParameter("say what to measure", param_hint="--scores")
    with progress_bar("bench", rounds) as advance:
        costs = measure_costs(load_bundle(bundle_folder), device, precision, images, rounds, advance)
    if as_json:
        print_json(asdict(costs))
        return
    out.print(f"forward of {costs.images} images on {costs.device}: {costs.forward_ms:.2f} ms")
    table = Table("scorer", "ms", "% of the forward")
    for row in costs.scores:
        table.add_row(row.scorer, f"{row.score_ms:.3f}", f"{row.share:.2f}")
    out.print(table)


@app.command("inspect")
def inspect_bundle(bundle_folder: BundleArgument) -> None:
    """Verify a bundle and print its manifest as JSON."""
    from oodgate.bundle import load_bundle
    from oodgate.model import Model

    bundle = load_bundle(bundle_folder)
    Model(bundle, "cpu")
    print_json(bundle.manifest.model_dump(mode="json"))


if __name__ == "__main__":
    main()
