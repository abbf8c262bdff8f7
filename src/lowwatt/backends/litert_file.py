"""Files of unknown origin for LiteRT: a damaged one can end the whole process, so that another one tries it first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lowwatt.errors import ToolError
from lowwatt.ir.tflite_file import IDENTIFIER

_PATIENCE = 120
"""Seconds that a file may take to open and to run once."""

_TRIAL = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
try:
    tried = Interpreter(model_path=sys.argv[1], num_threads=1)
    tried.allocate_tensors()
    for entry in tried.get_input_details():
        tried.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    tried.invoke()
except (RuntimeError, ValueError) as error:
    sys.exit(str(error))
"""


def read(path: str | Path) -> bytes:
    """Content of a .tflite file that LiteRT opens and runs, on zeros; ToolError for any other."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else "cannot read the file"
        raise ToolError(what, where=str(path), why=error.strerror or str(error)) from None
    if content[4:8] != IDENTIFIER:
        raise ToolError("this is no .tflite file", where=str(path), why=f"it does not say {IDENTIFIER.decode()}")
    _try(path)
    return content


def _try(path: str | Path) -> None:
    command = [sys.executable, "-c", _TRIAL, str(path)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError("litert cannot run the model", where=str(path), why=f"{_PATIENCE} s were not enough") from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        why = said[-1][:300] if ended.returncode > 0 and said else "the process that tried it broke down"
        raise ToolError("litert cannot open the model", where=str(path), why=why, hint="the file may be damaged")
