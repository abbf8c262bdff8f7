"""The command line: one command per verb of the road."""

from __future__ import annotations

import sys

import typer

from lowwatt.cli.console import messages, print_error
from lowwatt.errors import ToolError

app = typer.Typer(
    name="lowwatt",
    help="From a labelled data set to a detector that runs in INT8 on a low-power chip, with a proof at every step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register() -> None:
    from lowwatt.cli import build, check, look, road

    for module in (road, build, look, check):
        module.register(app)


_register()


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from lowwatt import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a stated failure or a red verdict, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except ToolError as error:
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        messages.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
