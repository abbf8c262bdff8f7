"""The command line: one command per verb of the road."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from lowwatt import process
from lowwatt.cli.console import messages, print_error
from lowwatt.errors import ToolError
from lowwatt.process import INTERRUPTED

app = typer.Typer(
    name="lowwatt",
    help="From a labelled data set to a detector that runs in INT8 on a low-power chip, with a proof at every step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register() -> None:
    from lowwatt.cli import build, bundle, check, disasm, energy, look, quantize, road, targets

    for module in (road, quantize, build, bundle, look, check, disasm, targets, energy):
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
    process.begin()
    try:
        app()
    except ToolError as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:  # the disk is full under stdout, a folder may not be read
        print_error(ToolError("the system refused", where=str(error.filename or ""), why=error.strerror or str(error)))
        sys.exit(1)
    except MemoryError as error:
        print_error(ToolError("out of memory", why=str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:  # typer ends so on Ctrl-C
        if stop.code == INTERRUPTED:
            _interrupted()
        raise


def _interrupted() -> NoReturn:
    messages.print("interrupted")
    sys.exit(INTERRUPTED)
