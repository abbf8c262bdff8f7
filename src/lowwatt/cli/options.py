"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as json on stdout.")]
Network = Annotated[
    Path,
    typer.Argument(metavar="FILE|RECIPE", help="Graph, model, ONNX, xmodel or recipe.", show_default=False),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="Class names, one a line, of a network that was trained elsewhere and names none."),
]
Pixels = Annotated[
    str,
    typer.Option(
        help="What a network that was trained elsewhere takes, where its kind takes something else as a rule: raw, "
        "unit, unit-bgr, tf, torch or caffe."
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="Machine: a name from `lowwatt targets`, a fingerprint, a .hwh, an arch.json, …"
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value]...", help="Settings that replace the recipe's.", show_default=False),
]
Schedule = Annotated[
    str,
    typer.Option(
        help="vendor (as the vendor's first compiler arranges it) or best (as fast as can be); default: the recipe's, "
        "else vendor."
    ),
]
