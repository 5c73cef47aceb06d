"""The commands. They parse, call and print; what they do lies in `api`, `fronts`, `bench` and `offline`."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from oodgate.api_keys_cli import app as api_keys_app
from oodgate.bundle_cli import app as bundle_app
from oodgate.console import err, out, print_json, progress_bar
from oodgate.cores import limit_threads
from oodgate.errors import OodgateError
from oodgate.options import BundleArgument, JsonOption, options_of_settings, read_settings
from oodgate.quarantine_cli import app as quarantine_app
from oodgate.settings import Device, Precision
from oodgate.signature_cli import app as signature_app

app = typer.Typer(
    name="oodgate",
    help="A gate in front of an image classifier: classes, an out-of-distribution score, accept or reject.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(bundle_app)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(signature_app)
app.add_typer(api_keys_app)


def main() -> None:
    """Run a command; an error on purpose, or of a file, is one sentence on standard error and exit status 2."""
    limit_threads()
    try:
        app()
    except OodgateError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
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
    from oodgate.fronts.device import serve as serve_until_signal

    serve_until_signal(read_settings(options))


@app.command()
def bench(
    bundle_folder: BundleArgument,
    files: Annotated[
        str | None, typer.Option(metavar="FOLDER|PATTERN", help="Image files to send; generated ones if not given.")
    ] = None,
    clients: Annotated[str, typer.Option(help="Numbers of clients that wait for their answers.")] = "1,8,32,64",
    duration: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds of each load.")] = 5.0,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Also send so many requests a second that wait for nothing.")
    ] = None,
    overhead: Annotated[bool, typer.Option("--overhead", help="A server without fronts, decoding, network.")] = False,
    gate: Annotated[bool, typer.Option("--gate", help="The gate without a server, against the bare forward.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="By clients, image size and limit of a batch.")] = False,
    scores: Annotated[bool, typer.Option("--scores", help="What every score costs beside the forward.")] = False,
    scoring: Annotated[bool, typer.Option("--scoring", help="The service beside one that only classifies.")] = False,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Folder for --growth's JSON and plot.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images in a batch of --scores.")] = 16,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Turns of service and limit, or of --gate or --scores.",
            show_default="3; of --gate and --scores 30",
        ),
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where the network runs. [env: OODGATE_DEVICE]")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Number format of the forward. [env: OODGATE_PRECISION]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure speed on this machine: the service under load, with the OODGATE_* settings, against the limit."""
    from oodgate.bench.command import measurement, parse_clients
    from oodgate.bench.service import Plan

    asked = {"overhead": overhead, "gate": gate, "growth": growth, "scores": scores, "scoring": scoring}
    kinds = [kind for kind, wanted in asked.items() if wanted] or ["service"]
    if len(kinds) > 1:
        raise typer.BadParameter("measure one thing at a time", param_hint=" / ".join(f"--{kind}" for kind in kinds))
    if out_folder and not growth:
        raise typer.BadParameter("only --growth writes files", param_hint="--out")
    settings = read_settings({"bundle": bundle_folder, "device": device, "precision": precision})
    plan = Plan(settings, files, parse_clients(clients), duration, rate, rounds or 3)
    chosen = measurement(kinds[0], plan, images, rounds or 30, out_folder)
    # What is logged on the way is not the result.
    with redirect_stdout(sys.stderr), progress_bar("bench", chosen.steps) as advance:
        record, tables = chosen.run(advance)
    if as_json:
        print_json(record)
        return
    for table in tables:
        out.print(table)


if __name__ == "__main__":
    main()
