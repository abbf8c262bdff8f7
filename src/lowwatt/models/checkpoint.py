"""A trained model on disk: weights as safetensors, everything else as json in the same file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes
from lowwatt.models.networks import HEADS, build_network, head_of, preprocess_of
from lowwatt.models.reparam import folded
from lowwatt.recipe import Recipe
from lowwatt.types import DetectionHead, Head, Preprocess

FORMAT = 1
_KEY = "lowwatt"


@dataclass
class Model:
    """A network with what is needed to use it: recipe, class names, the data set's category ids, head, pre-processing.

    `info` holds facts of the run that made it (epochs, AP, seconds …), json-able.
    """

    module: nn.Module
    recipe: Recipe
    labels: tuple[str, ...]
    category_ids: tuple[int, ...]
    head: Head
    preprocess: Preprocess
    info: dict[str, Any] = field(default_factory=dict)

    def detection(self) -> DetectionHead:
        """The head of a detector; ToolError where the network is for something else."""
        if not isinstance(self.head, DetectionHead):
            why = f"it is for {self.recipe.task}"
            raise ToolError("the model is no detector", where=self.recipe.name, why=why)
        return self.head


def save(model: Model, path: str | Path, half: bool = True) -> None:
    """Write a model as .safetensors, weights in float16 where `half`. The same model gives the same bytes.

    Blocks that train in another form than they run in are written as they run (`lowwatt.models.reparam`).
    """
    import safetensors.torch

    about = {
        "format": FORMAT,
        "recipe": model.recipe.model_dump(mode="json"),
        "labels": list(model.labels),
        "category_ids": list(model.category_ids),
        "head": dataclasses.asdict(model.head),
        "preprocess": dataclasses.asdict(model.preprocess),
        "info": model.info,
    }
    kind = torch.float16 if half else torch.float32
    tensors = {
        name: value.to("cpu", kind if value.is_floating_point() else value.dtype, copy=True).contiguous()
        for name, value in folded(model.module).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {_KEY: json.dumps(about, sort_keys=True)}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def load(path: str | Path) -> Model:
    """Read a model written by `save`, in evaluation mode on the CPU, weights float32.

    Raises ToolError for a missing, damaged or foreign file.
    """
    source = Path(path)
    about, tensors = read(source)
    try:
        recipe = Recipe.model_validate(about["recipe"])
        labels, category_ids = tuple(about["labels"]), tuple(about["category_ids"])
        head: Head = TypeAdapter(HEADS[recipe.task]).validate_python(about["head"])
        preprocess = _preprocess(about["preprocess"])
        module = build_network(recipe, len(labels))
        info = dict(about["info"])
    except (KeyError, IndexError, TypeError, ValueError, ValidationError, ToolError) as error:
        raise _damaged(source, str(error).splitlines()[0]) from None
    if head != head_of(recipe, len(labels)) or preprocess != preprocess_of(recipe):
        raise _damaged(source, "its head or pre-processing is not that of its recipe")
    _fill(module, tensors, source)
    return Model(module.eval(), recipe, labels, category_ids, head, preprocess, info)


def read(source: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `save` wrote beside the weights, and the weights by name; ToolError as `load`."""
    from safetensors import SafetensorError, safe_open

    if not source.is_file():
        raise ToolError("no such model", where=str(source), hint="`lowwatt train` writes model.safetensors")
    try:
        with safe_open(source, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        about = json.loads(metadata.get(_KEY, "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(source, str(error)) from None
    if not isinstance(about, dict):
        raise ToolError("not a model of lowwatt", where=str(source), why="a safetensors file without our metadata")
    if about.get("format") != FORMAT:
        why = f"format {about.get('format')}, this version reads {FORMAT}"
        raise ToolError("cannot read the model", where=str(source), why=why)
    return about, tensors


def _fill(module: nn.Module, tensors: dict[str, torch.Tensor], source: Path) -> None:
    wanted = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    if wanted != set(tensors):
        name = sorted(wanted ^ set(tensors))[0]
        raise _damaged(source, f"weights and recipe disagree, first at {name}")
    try:
        module.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise _damaged(source, str(error).splitlines()[-1].strip()) from None


def _preprocess(stored: dict[str, Any]) -> Preprocess:
    return Preprocess(**{**stored, "size": tuple(stored["size"])})


def _damaged(source: Path, why: str) -> ToolError:
    return ToolError("cannot read the model", where=str(source), why=why, hint="the file is damaged; train it again")
