"""A teacher: any detector that can be loaded, run on the student's own images."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowwatt.errors import ToolError
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph, Node
from lowwatt.loading import load_with_head
from lowwatt.quant.executor import TorchExecutor
from lowwatt.training.graphs import Graphs
from lowwatt.types import DetectionHead

_CONVS = ("conv2d", "depthwise_conv2d")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the teacher says of a batch. `features` of its neck, one NCHW tensor a stride; `cls` (B, A, C) and `obj`
    (B, A) probabilities and `box` (B, A, 4) as the network gives it, anchors of all strides in a row.
    """

    features: tuple[Tensor, ...]
    cls: Tensor
    obj: Tensor
    box: Tensor


class Teacher:
    """A YOLOX-like detector from a file: .safetensors, .lwg or .onnx, of any width, colour or gray.

    It runs at the student's size on the student's pixels; gray ones stand three times for a colour teacher. `classes`
    are the places of the student's classes among the teacher's, by name. With `alone` it runs as CUDA graphs.
    """

    def __init__(
        self,
        file: str,
        labels: Sequence[str],
        strides: Sequence[int],
        device: torch.device,
        alone: threading.Lock | None = None,
    ) -> None:
        self.graph, _ = load_with_head(file)
        head = meta.head(self.graph)
        if not isinstance(head, DetectionHead) or head.kind != "yolox" or tuple(head.strides) != tuple(strides):
            why = f"its strides must be {tuple(strides)}, its boxes YOLOX's"
            raise ToolError("this detector cannot teach YOLOX", where=file, why=why)
        self.classes = _places(labels, meta.labels(self.graph), file)
        network = _Network(self.graph, head, device)
        self.ask: Callable[[Tensor], Any] = network
        if alone is not None:
            self.ask = Graphs(network, contextlib.nullcontext, alone)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Lesson:
        """NCHW images, 0…255. With CUDA graphs a lesson is overwritten by the next one."""
        features, (cls, box, obj) = self.ask(images)
        return Lesson(features, cls[..., self.classes].sigmoid(), obj[..., 0].sigmoid(), box)


class _Network(nn.Module):
    """A graph: images NCHW → neck features, NCHW, and raw (cls, box, obj), anchors of all strides in a row."""

    def __init__(self, graph: Graph, head: DetectionHead, device: torch.device) -> None:
        super().__init__()
        self.input, self.head = graph.inputs[0], head
        self.neck = [neck_output(graph, triple) for triple in head.outputs]
        constants = {t.name: torch.from_numpy(np.asarray(t.data)).to(device) for t in graph.constants()}
        self.executor = TorchExecutor(graph, {}, constants)
        self.colours = graph.tensor(self.input).shape[-1]

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What the graph gives."""
        pixels = images.float().permute(0, 2, 3, 1)
        if pixels.shape[-1] != self.colours:
            pixels = pixels.expand(-1, -1, -1, self.colours) if self.colours == 3 else pixels.mean(-1, keepdim=True)
        seen: dict[str, Tensor] = {}

        def watch(name: str, value: Tensor) -> None:
            if name in self.neck:
                seen[name] = value.permute(0, 3, 1, 2)

        found = self.executor({self.input: pixels.contiguous()}, watch)
        rows = (torch.cat([found[t[kind]].flatten(1, 2) for t in self.head.outputs], 1) for kind in range(3))
        return tuple(seen[name] for name in self.neck), tuple(rows)


class Remembered:
    """A teacher that knows images it has seen, by their pixels: epochs without augmentation cost it nothing.

    `limit` is in bytes; beyond it new images are not kept.
    """

    def __init__(self, teacher: Callable[[Tensor], Lesson], limit: int) -> None:
        self.teacher, self.limit, self.bytes = teacher, limit, 0
        self.kept: dict[bytes, Lesson] = {}

    def __call__(self, images: Tensor) -> Lesson:
        """The lesson of NCHW images, float16 where it was kept."""
        keys = [_key(image) for image in images]
        new = [i for i, key in enumerate(keys) if key not in self.kept]
        fresh = self.teacher(images[new]) if new else None
        rows = [self.kept.get(key) for key in keys]
        for place, index in enumerate(new):
            assert fresh is not None
            rows[index] = self._keep(keys[index], _row(fresh, place))
        return _joined([row for row in rows if row is not None], images.device)

    def _keep(self, key: bytes, row: Lesson) -> Lesson:
        size = sum(2 * t.numel() for t in (*row.features, row.cls, row.obj, row.box))
        if self.bytes + size <= self.limit:
            self.bytes += size
            self.kept[key] = _map(row, lambda t: t.half().cpu())
        return row


def _key(image: Tensor) -> bytes:
    return hashlib.blake2b(image.to(torch.uint8).cpu().numpy().tobytes(), digest_size=16).digest()


def _map(lesson: Lesson, change: Callable[[Tensor], Tensor]) -> Lesson:
    rest = (change(t) for t in (lesson.cls, lesson.obj, lesson.box))
    return Lesson(tuple(map(change, lesson.features)), *rest)


def _row(lesson: Lesson, index: int) -> Lesson:
    return _map(lesson, lambda t: t[index : index + 1])


def _joined(rows: Sequence[Lesson], device: torch.device) -> Lesson:
    rows = [_map(row, lambda t: t.to(device).float()) for row in rows]
    features = tuple(torch.cat(maps) for maps in zip(*(row.features for row in rows), strict=True))
    cls, obj, box = (torch.cat([getattr(row, name) for row in rows]) for name in ("cls", "obj", "box"))
    return Lesson(features, cls, obj, box)


def _places(labels: Sequence[str], known: Sequence[str], file: str) -> list[int]:
    """Where the student's classes are among the teacher's."""
    missing = [name for name in labels if name not in known]
    if missing:
        why = f"{', '.join(missing[:4])} {'is' if len(missing) == 1 else 'are'} not among its {len(known)}"
        raise ToolError("the teacher does not know all classes", where=file, why=why, hint="set data.classes")
    return [list(known).index(name) for name in labels]


def neck_output(graph: Graph, triple: tuple[str, str, str]) -> str:
    """The tensor that a stride's head starts from: what its first common convolution reads."""
    producers = graph.producers()
    common = set.intersection(*(_above(producers, name) for name in triple))
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    last = max((name for name in common if name in order), key=order.__getitem__)
    while producers[last].op not in _CONVS:
        last = producers[last].inputs[0]
    return str(producers[last].inputs[0])


def _above(producers: Mapping[str, Node], name: str) -> set[str]:
    """A tensor and all that it is made of."""
    seen: set[str] = set()
    rest = [name]
    while rest:
        tensor = rest.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        if tensor in producers:
            rest += producers[tensor].inputs
    return seen
