"""Starting a network from another's weights: other classes, gray instead of colour, another program's file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lowwatt.errors import ToolError
from lowwatt.models import checkpoint, foreign

_CLASS_ROWS = re.compile(r"^head\.\d+\.cls\.(weight|bias)$")
_STEM = "backbone.stem."
_SHOWN = 4  # names of parts or classes in what is told


@dataclass(frozen=True)
class Start:
    """What became of a network's tensors: `fresh` ones stayed as they were; in `gray` ones channels were added up.

    `classes` are those whose rows came along, where classes are known by name on both sides.
    """

    source: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    gray: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{len(self.taken)} of {len(self.taken) + len(self.fresh)} tensors from {self.source}"]
        if self.gray:
            parts.append("its colour channels added up to gray")
        if self.classes is not None:
            parts.append(f"classes taken: {_some(self.classes) or 'none'}")
        if self.fresh:
            parts.append("fresh: " + _some(dict.fromkeys(".".join(name.split(".")[:3]) for name in self.fresh)))
        return "; ".join(parts)


def load_weights(module: nn.Module, path: str | Path, labels: Sequence[str] = ()) -> Start:
    """Start a module from a checkpoint of ours or of Megvii's YOLOX (`model.init` of a recipe), where shapes agree.

    Rows of the class outputs are taken by the names of the classes, where both sides have them; `labels` are the
    module's. A colour stem becomes a gray one by adding up its channels: a gray picture shown in colour has three
    equal channels, so that the network sees what it saw before. Raises ToolError where nothing fits.
    """
    source = Path(path)
    tensors, theirs = _read(source)
    own = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    known = bool(theirs and labels)
    fitted = {name: _fitted(name, own[name], tensors[name].float()) for name in sorted(own.keys() & tensors.keys())}
    if known:
        fitted |= {name: _rows(own[name], fitted[name], labels, theirs) for name in fitted if _CLASS_ROWS.match(name)}
    fitting = {name: tensor for name, tensor in fitted.items() if tensor.shape == own[name].shape}
    if not fitting:
        raise ToolError("no weight fits this network", where=str(path), hint="check model.width and model.depth")
    module.load_state_dict(fitting, strict=False)
    gray = tuple(name for name in fitting if tensors[name].shape != own[name].shape and name.startswith(_STEM))
    shared = tuple(label for label in labels if label in theirs) if known else None
    return Start(source.name, tuple(fitting), tuple(sorted(own.keys() - fitting.keys())), gray, shared)


def _read(source: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    if source.suffix in foreign.SUFFIXES:
        return foreign.read_foreign(source)
    about, tensors = checkpoint.read(source)
    return tensors, tuple(about.get("labels", ()))


def _fitted(name: str, own: Tensor, theirs: Tensor) -> Tensor:
    """Their tensor, its colours added up where ours is the stem of a gray network.

    (O, 3 k, h, w) → (O, k, h, w): Focus has its four pixels one after the other, each with all channels.
    """
    if not name.startswith(_STEM) or theirs.ndim != 4 or theirs.shape[1] != 3 * own.shape[1]:
        return theirs
    outputs, inputs, height, width = theirs.shape
    return theirs.reshape(outputs, inputs // 3, 3, height, width).sum(2)


def _rows(own: Tensor, theirs: Tensor, labels: Sequence[str], names: Sequence[str]) -> Tensor:
    """Our class output with their rows where both know a class; empty, so that it fits nowhere, where there is none."""
    pairs = [(row, names.index(label)) for row, label in enumerate(labels) if label in names]
    if not pairs or own.shape[1:] != theirs.shape[1:] or len(theirs) != len(names):
        return own.new_empty(0)
    rows = own.clone()
    for row, other in pairs:
        rows[row] = theirs[other]
    return rows


def _some(names: Sequence[str] | dict[str, None]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
