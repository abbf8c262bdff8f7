"""Classifiers: one number a class, with or without a softmax behind it."""

from __future__ import annotations

import math

from lowwatt.ir.graph import Graph
from lowwatt.ir.heads.found import Found, NotThisHead, image_of
from lowwatt.types import ClassHead, Preprocess

_LAST_LAYERS = ("linear", "conv2d", "add", "reshape", "avg_pool", "reduce_mean")


def find(graph: Graph) -> Found:
    """The logits; NotThisHead with the reason where the output is no list of classes.

    A file does not say what pixels its network takes: it is assumed to be what the framework's own networks take, told
    by the layout of the input, which is NHWC in TensorFlow and NCHW in PyTorch.
    """
    image = image_of(graph)
    if len(graph.outputs) != 1:
        raise NotThisHead(f"it has {len(graph.outputs)} outputs, not one")
    shape = graph.tensor(graph.outputs[0]).shape
    if math.prod(shape) != shape[-1] or shape[-1] < 2:
        raise NotThisHead("its output is no list of classes")
    last = graph.node(graph.outputs[0])
    logits = last.inputs[0] if last.op == "softmax" else last.name
    if graph.node(logits).op not in _LAST_LAYERS:
        raise NotThisHead(f"its list of classes comes out of {graph.node(logits).op}")
    layouts = graph.meta.get("source_layout", {})
    word = "torch" if layouts.get(graph.inputs[0]) == "NCHW" else "tf"
    line = f"{image[1]}x{image[2]}, the middle of each image" + (
        ", cut before its softmax" if logits != last.name else ""
    )
    preprocess = Preprocess((image[1], image[2]), image[3], fit="crop")
    return Found({logits: last.name}, ClassHead(last.name, shape[-1]), preprocess, word, line)
