"""Machines in YAML: the boards that come with lowwatt, and a user's own file of the same keys.

A file may start from a known board with `base: NAME` and state only what differs. `core:` takes a name or a
fingerprint and stands for array, isa, image_groups and options; `array:` takes a name.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.targets.core import Core, array_named
from lowwatt.targets.fingerprint import decode
from lowwatt.targets.names import core_named
from lowwatt.targets.target import Target
from lowwatt.targets.text import number, read_text

_WHAT = "cannot read the target"


@functools.cache
def target_names() -> tuple[str, ...]:
    """Names of the machines that come with lowwatt; none where there is no PyYAML to read them.

    >>> "kv260" in target_names()
    True
    """
    try:
        importlib.import_module("yaml")
    except ImportError:
        return ()
    folder = resources.files("lowwatt.targets")
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


@functools.cache
def board(name: str) -> Target:
    """A machine that comes with lowwatt."""
    return Target.from_json(_shipped(name, ()), name)


def read_yaml(path: Path) -> Target:
    """A user's own machine. ToolError for an unreadable file, an unknown key or a wrong value."""
    where = str(path)
    values = _parse(read_text(path, _WHAT), where)
    # Without a name of its own it would go by its base's, and programs of another core would carry that.
    values.setdefault("name", path.name)
    return Target.from_json(_resolve(values, where, ()), where)


def core_of(text: str) -> Core:
    """Core of a name or a fingerprint (0x…)."""
    return decode(number(text)) if text[:2].lower() == "0x" else core_named(text)


def _shipped(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    text = resources.files("lowwatt.targets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return _resolve(_parse(text, name), name, (*seen, name))


def _parse(text: str, where: str) -> dict[str, Any]:
    from lowwatt import yaml_text  # a board without PyYAML runs programs, which carry their machine

    values = yaml_text.parse(text, _WHAT, where)
    if not isinstance(values, dict):
        raise ToolError(_WHAT, where=where, why="it is not a mapping")
    return values


def _resolve(values: dict[str, Any], where: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Values with names spelt out and with those of `base` under them, section by section."""
    base = _word(values, "base", where)
    values = _spelt_out(values, where)
    if base is None:
        return values
    if base in seen or base not in target_names():
        why = "it rests on itself" if base in seen else f"base {base} is no known machine"
        raise ToolError(_WHAT, where=where, why=why, hint=did_you_mean(str(base), target_names()))
    return _merge(_shipped(base, seen), values)


def _spelt_out(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Values with `core` and the name of an array replaced by what they stand for; what is said beside them wins."""
    core = _word(values, "core", where)
    try:
        if isinstance(values.get("array"), str):
            values["array"] = asdict(array_named(values["array"]))
        if core is not None:
            values = _merge(asdict(core_of(core)), values)
    except ToolError as error:
        raise ToolError(
            error.what, where=f"{where}: {error.where}".rstrip(": "), why=error.why, hint=error.hint
        ) from None
    return values


def _word(values: dict[str, Any], key: str, where: str) -> str | None:
    """Take a name, or a number as which YAML reads 0x…, out of the values; None where it is not there."""
    word = values.pop(key, None)
    if isinstance(word, int) and not isinstance(word, bool):
        return hex(word)
    if word is not None and not isinstance(word, str):
        raise ToolError(_WHAT, where=f"{where}: {key}", why=f"a name is expected, not a {type(word).__name__}")
    return word


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}
