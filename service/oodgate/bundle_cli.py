"""The commands that make a bundle, calibrate it, and judge images by it without a server."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from oodgate.console import (
    err,
    out,
    print_calibration,
    print_evaluation,
    print_export,
    print_json,
    print_predictions,
    progress_bar,
)
from oodgate.errors import SetupError
from oodgate.options import (
    BundleArgument,
    CacheOption,
    DeviceOption,
    JsonOption,
    TrustedOption,
    parse_sets,
    parse_setting,
    parse_w,
)
from oodgate.settings import Precision
from oodgate.signature_cli import removal_is_told

app = typer.Typer()


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(help="A network, such as resnet50, timm:NAME, package.module:function, FILE.ts or FILE.pt2."),
    ],
    classes: Annotated[Path, typer.Option(help="Classes in the order of the logits: JSON, or one name a line.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    weights: Annotated[Path | None, typer.Option(help="Trained weights: .safetensors, or .pt/.pth of tensors.")] = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Do without, to try things out.")] = False,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="3xHxW", help="Size of its images; else the preprocessing's.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(metavar="LAYER", help="Layer whose output NAP reads; found if not given.")
    ] = None,
    preprocess: Annotated[
        str | None, typer.Option(help="Its transform: imagenet, cifar10, ..., a JSON file, or NAME=VALUE,...")
    ] = None,
    engine: Annotated[
        Literal["torchscript", "export", "aotinductor"] | None, typer.Option(help="What runs it; torchscript.")
    ] = None,
    compare_engines: Annotated[bool, typer.Option("--compare-engines", help="Time every engine.")] = False,
    name: Annotated[str, typer.Option(help="Name of the bundle; its folder's name if not given.")] = "",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    replaces: Annotated[bool, typer.Option("--replace", help="Write over a calibrated bundle.")] = False,
    provenance: Annotated[
        Path | None, typer.Option(help="JSON file on where the network came from, kept in the bundle.")
    ] = None,
) -> None:
    """Turn any trained classifier into a bundle."""
    from oodgate.offline.export import BundleName, ExportPlan, export_bundle

    called = BundleName(name or out_folder.resolve().name, version, provenance)
    plan = ExportPlan(input_size, activation, preprocess, engine, random_weights, compare_engines, replaces)
    with removal_is_told(out_folder), err.status("export"):
        bundle = export_bundle(source, weights, classes, out_folder, called, plan)
    print_export(bundle.manifest)
    out.print(f"{out_folder}: calibrate it next", markup=False, highlight=False, soft_wrap=True)


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
    check_decoding: Annotated[
        bool, typer.Option("--check-decoding", help="Also check that images decoded on the device are decided alike.")
    ] = False,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Real strange images as a check; they choose nothing. Repeatable."),
    ] = None,
    add: Annotated[
        Path | None, typer.Option(help="More images for the threshold: a folder, or a quarantine that people labelled.")
    ] = None,
    cache: CacheOption = None,
    trusted: TrustedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit, search scorer and w where asked to, and write threshold and guarantee into the bundle."""
    from oodgate.bundle import load_bundle, write_bundle
    from oodgate.offline.account import account_of, inverted_families, report_of, with_evidence
    from oodgate.offline.calibrate import CalibrationPlan
    from oodgate.offline.calibrate import calibrate as calibrate_bundle
    from oodgate.offline.check import check
    from oodgate.offline.feedback import added_images
    from oodgate.offline.prepare import AUTO, ScorerPlan, prepare
    from oodgate.offline.splits import Folders, split, with_more

    bundle = load_bundle(bundle_folder, trusted)
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
    splits = split(folders, bundle.manifest.classes, fits=bool(open_plan.methods_to_fit(bundle)), searches=searches)
    if add:
        splits = with_more(splits, added_images(add, bundle.manifest.classes, seed))
    prepared = prepare(bundle, splits, open_plan, progress_bar)
    plan = CalibrationPlan(
        scorer=prepared.scorer,
        kind=guarantee,
        alpha=alpha,
        delta=delta,
        device=device,
        precision=precision,
        check_precision=check_precision,
        check_decoding=check_decoding,
        cache=cache,
    )
    with progress_bar("calibrate", len(splits.calibrate) * (1 + bool(check_precision) + check_decoding)) as advance:
        calibrated = calibrate_bundle(prepared.bundle, splits.calibrate, plan, advance)
    with progress_bar("check", None) as advance:
        checked = check(calibrated, parse_sets(ood or ()), device, cache, advance)
    record = account_of(prepared, calibrated, checked)
    with removal_is_told(bundle_folder):
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
    trusted: TrustedOption = None,
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

    bundle = load_bundle(bundle_folder, trusted)
    own, precision = bundle.calibration.scorer, bundle.calibration.precision
    wanted = usable_scorers(own.w, bundle.state) if scorers == "all" else scorers.split(",")
    names = tuple(dict.fromkeys((*wanted, own.name) if report_folder else wanted))  # the report is about the own one
    folders = {evaluation.KNOWN: id_folder, **parse_sets(ood)}
    images = {name: list_images(folder, bundle.manifest.classes) for name, folder in folders.items()}
    extractor = Extractor(bundle, {*names, own.name}, own.parameters, device, precision, cache)
    with progress_bar("evaluate", sum(len(found) for found in images.values())) as advance:
        result = evaluation.evaluate(bundle, extractor, images, names, advance)
    if save:
        measures = {**bundle.manifest.measures, **result.as_dict()}
        manifest = bundle.manifest.model_copy(update={"measures": measures})
        with removal_is_told(bundle_folder):
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
    trusted: TrustedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge image files without a server, by the same code."""
    from oodgate.bundle import load_bundle
    from oodgate.gate import Gate
    from oodgate.offline.predict import predict_paths

    bundle = load_bundle(bundle_folder, trusted)
    gate = Gate(bundle, device, bundle.calibration.precision)
    with progress_bar("predict", None) as advance:
        records = predict_paths(gate, paths, advance)
    if as_json:
        print_json({"results": records})
    else:
        print_predictions(records)
    if failed := sum("problem" in record for record in records):
        raise SetupError(f"{failed} of {len(records)} files have no verdict; remove or replace them")


@app.command("inspect")
def inspect_bundle(bundle_folder: BundleArgument, trusted: TrustedOption = None) -> None:
    """Verify a bundle and print its manifest as JSON."""
    from oodgate.bundle import load_bundle
    from oodgate.model import Model

    bundle = load_bundle(bundle_folder, trusted)
    Model(bundle, "cpu")
    print_json(bundle.manifest.model_dump(mode="json"))
