"""How far outputs are from the float network's in what they are for: scores and boxes, classes, or numbers.

No labels: the float network's answer is the right one. 0 where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.types import DetectionHead

Outputs = Mapping[str, Tensor]
Loss = Callable[[Outputs, Outputs], Tensor]
"""(outputs, float outputs) → a scalar, at least 0; both by name, NHWC."""


def output_loss(graph: Graph) -> Loss:
    """What fits a graph's head: YOLOX's scores and boxes, a classifier's distribution, else relative squared error."""
    if meta.classifier(graph) is not None:
        return _divergence
    head = meta.head(graph) if "head" in graph.meta else None
    if isinstance(head, DetectionHead) and head.kind == "yolox":
        size = graph.tensor(graph.inputs[0]).shape[1:3]
        return partial(_detection, head, (int(size[0]), int(size[1])))
    return _relative


def _relative(found: Outputs, real: Outputs) -> Tensor:
    """Mean squared error in units of the float values' variance, summed over the outputs."""
    parts = [(found[name] - goal).square().mean() / goal.var().clamp_min(1e-12) for name, goal in real.items()]
    return torch.stack(parts).sum()


def _divergence(found: Outputs, real: Outputs) -> Tensor:
    """Kullback-Leibler divergence of the class probabilities, mean over images."""
    parts = []
    for name, goal in real.items():
        log_found, log_goal = (x.flatten(1).log_softmax(1) for x in (found[name], goal))
        parts.append(functional.kl_div(log_found, log_goal, reduction="batchmean", log_target=True))
    return torch.stack(parts).sum()


def _detection(head: DetectionHead, side: tuple[int, int], found: Outputs, real: Outputs) -> Tensor:
    """Divergence of objectness at all anchors, of classes and boxes where the float network sees something; per object
    that it sees.
    """
    from lowwatt.training.loss import BOX_LOSS_WEIGHT, anchor_points, corners, paired_iou

    cls, box, obj = _rows(head, found)
    real_cls, real_box, real_obj = _rows(head, real)
    real_cls, real_obj = real_cls.sigmoid(), real_obj[..., 0].sigmoid()
    score = real_obj * real_cls.amax(-1)
    cell, stride = anchor_points(side, head.strides, box.device)
    ends = [corners(x, cell, stride).flatten(0, 1) for x in (box, real_box)]
    boxes = (score.flatten() * (1 - paired_iou(*ends).square())).sum()
    total = _bernoulli(obj[..., 0], real_obj).sum() + (score[..., None] * _bernoulli(cls, real_cls)).sum()
    return (total + BOX_LOSS_WEIGHT * boxes) / score.sum().clamp(min=1)


def _bernoulli(logits: Tensor, goal: Tensor) -> Tensor:
    """Divergence of yes-or-no probabilities, element by element."""
    cross = functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    return cross - functional.binary_cross_entropy(goal, goal, reduction="none")


def _rows(head: DetectionHead, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    """Class, box and objectness of all strides in a row: (B, A, C)."""
    cls, box, obj = (torch.cat([outputs[t[kind]].flatten(1, 2) for t in head.outputs], 1) for kind in range(3))
    return cls, box, obj
