"""The data plane's commands; the operator's command line mounts them beside its own."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from latentry_serving.bundle.cli import bundle_app
from latentry_serving.contract.errors import LatentryError
from latentry_serving.drift_cli.cli import drift_app, profile_app
from latentry_serving.tap.cli import tap

app = typer.Typer(
    name="latentry",
    help="Bundles, drift and the tap.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(tap)
app.add_typer(bundle_app)
app.add_typer(profile_app)
app.add_typer(drift_app)


@app.callback()
def root() -> None:
    """Bundles, drift and the tap."""


def run(command: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; an error meant for users ends as a sentence on stderr and an exit code."""
    try:
        command(args=list(arguments) if arguments is not None else None)
    except LatentryError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


def main(arguments: Sequence[str] | None = None) -> None:
    """The data plane's command line."""
    run(app, arguments)
