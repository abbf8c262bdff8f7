"""Checkpoints of Megvii's YOLOX (github.com/Megvii-BaseDetection/YOLOX, .pth), under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lowwatt.data.class_maps import read_class_map
from lowwatt.errors import ToolError

SUFFIXES = (".pth", ".pt")

_RULES = (
    (r"^module\.", ""),  # of DistributedDataParallel
    (r"^backbone\.backbone\.", "backbone."),
    (r"^backbone\.lateral_conv0\.", "neck.reduce5."),
    (r"^backbone\.C3_p4\.", "neck.up4."),
    (r"^backbone\.reduce_conv1\.", "neck.reduce4."),
    (r"^backbone\.C3_p3\.", "neck.up3."),
    (r"^backbone\.bu_conv2\.", "neck.down3."),
    (r"^backbone\.C3_n3\.", "neck.out4."),
    (r"^backbone\.bu_conv1\.", "neck.down4."),
    (r"^backbone\.C3_n4\.", "neck.out5."),
    (r"\.m\.(\d+)\.", r".blocks.\1."),
    (r"^head\.stems\.(\d)\.", r"head.\1.stem."),
    (r"^head\.cls_convs\.(\d)\.", r"head.\1.cls_tower."),
    (r"^head\.reg_convs\.(\d)\.", r"head.\1.box_tower."),
    (r"^head\.cls_preds\.(\d)\.", r"head.\1.cls."),
    (r"^head\.reg_preds\.(\d)\.", r"head.\1.box."),
    (r"^head\.obj_preds\.(\d)\.", r"head.\1.obj."),
)
"""In order: what a name of theirs has, and what stands there in ours."""


def our_name(name: str) -> str:
    """Our name of a tensor of Megvii's.

    >>> our_name("backbone.C3_p4.m.0.conv1.bn.weight")
    'neck.up4.blocks.0.conv1.bn.weight'
    >>> our_name("head.cls_preds.2.bias")
    'head.2.cls.bias'
    """
    for pattern, ours in _RULES:
        name = re.sub(pattern, ours, name)
    return name


def read_foreign(source: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights of a .pth by our names, and the class names: COCO's where it has 80 classes, else none are known.

    Nothing in the file is run (`weights_only`). Like ours, these networks take BGR of 0…255; those of YOLOX before
    0.1.1 took RGB, normalised, and do not start well here. Raises ToolError for a missing, damaged or other file.
    """
    state = _state(_unpickle(source), source)
    if any(".dconv." in name for name in state):
        why = "its convolutions are depthwise (YOLOX-Nano), ours are not"
        raise ToolError("the checkpoint is of another network", where=str(source), why=why)
    tensors = {our_name(name): tensor for name, tensor in state.items()}
    classes = tensors.get("head.0.cls.bias")
    coco = read_class_map("objects365-coco").labels
    return tensors, coco if classes is not None and len(classes) == len(coco) else ()


def _unpickle(source: Path) -> Any:
    import numpy as np

    if not source.is_file():
        raise ToolError("no such model", where=str(source), hint="set model.init")
    # The trainer stores its best AP beside the weights, as a scalar of numpy.
    scalars = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64))]
    try:
        with torch.serialization.safe_globals(scalars):
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds on damaged input, none of them the user's business
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ToolError("cannot read the checkpoint", where=str(source), why=why[:200]) from None


def _state(content: Any, source: Path) -> Mapping[str, Tensor]:
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise ToolError("not a checkpoint of YOLOX", where=str(source), why="it has no weights under the key model")
    wrong = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if wrong is not None:
        raise ToolError("not a checkpoint of YOLOX", where=str(source), why=f"{str(wrong)[:80]} is no tensor")
    return state
