"""run: a network of any kind on arrays, one file for each output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.files import atomic_path
from lowwatt.types import Array, QuantParams

_FOREIGN = re.compile(r"[/\\\x00-\x1f\x7f]")
_LONGEST = 200
"""Bytes of a file's name, without its number and suffix; file systems end at 255."""


def run_file(file: Path, inputs: Sequence[str], backend: str, out: Path) -> list[dict[str, Any]]:
    """Run `file` once; rows of {output, file, dtype, shape, meaning}.

    `inputs` are "x.npy" (a network of one input) or "NAME=x.npy". Quantized outputs are written as raw integers.
    Arrays are laid out as the network's own inputs: NHWC for graphs, xmodels and programs; as the file has it
    for an ONNX on onnxruntime.
    """
    from lowwatt.backends import open_backend

    if not file.is_file():
        raise ToolError("no such file", where=str(file))
    session = open_backend(backend, _source(file, backend))
    outputs = session.run(_named(inputs, list(session.inputs)))
    quants: dict[str, QuantParams | None] = session.quants
    names = file_names(outputs)
    return [_write(out / names[name], name, value, quants.get(name)) for name, value in outputs.items()]


def _source(file: Path, backend: str) -> Any:
    from lowwatt.loading import load, load_graph

    if file.suffix == ".onnx" and backend == "onnxruntime":
        return file
    loaded = load(file)
    return load_graph(file) if file.suffix == ".safetensors" else loaded


def _named(inputs: Sequence[str], names: Sequence[str]) -> dict[str, Array]:
    table: dict[str, Array] = {}
    for text in inputs:
        name, path = _split(text, names)
        if name in table:
            raise ToolError("an input is given twice", where=name)
        table[name] = _read_array(Path(path))
    missing = [name for name in names if name not in table]
    if missing:
        raise ToolError("an input is missing", where=missing[0], hint=f"--input {missing[0]}=x.npy")
    return table


def _split(text: str, names: Sequence[str]) -> tuple[str, str]:
    """Name and path of one --input; names and paths may hold "=" themselves."""
    for name in names:
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    name, equals, _ = text.partition("=")
    if equals and not Path(text).is_file():
        raise ToolError(f"the network has no input {name}", hint=did_you_mean(name, names))
    if len(names) != 1:
        raise ToolError("the network has several inputs", why=", ".join(names), hint=f"--input {names[0]}={text}")
    return names[0], text


def _read_array(path: Path) -> Array:
    try:
        value = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ToolError("no such file", where=str(path)) from None
    except (OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
        raise ToolError(
            "cannot read the array", where=str(path), why=str(error), hint="save it with numpy.save"
        ) from None
    if not isinstance(value, np.ndarray):
        raise ToolError("cannot read the array", where=str(path), why="it holds several arrays; one .npy is needed")
    return value


def file_names(outputs: Iterable[str]) -> dict[str, str]:
    """File of each output: its name, with "_" for what does not belong in a file name; no two are the same.

    >>> file_names(["cls", "../a b", ".._a b"])
    {'cls': 'cls.npy', '../a b': '.._a b.npy', '.._a b': '.._a b-1.npy'}
    """
    files: dict[str, str] = {}
    for name in outputs:
        plain = _FOREIGN.sub("_", name).encode(errors="replace")[:_LONGEST].decode(errors="ignore") or "_"
        file, number = f"{plain}.npy", 1
        while file in files.values():
            file, number = f"{plain}-{number}.npy", number + 1
        files[name] = file
    return files


def _write(path: Path, name: str, value: Array, quant: QuantParams | None) -> dict[str, Any]:
    with atomic_path(path) as temporary:
        np.save(temporary, value)
    meaning = "float" if quant is None else f"integers, scale {quant.scale:g}"
    return {
        "output": name,
        "file": str(path),
        "dtype": str(value.dtype),
        "shape": list(value.shape),
        "meaning": meaning,
    }
