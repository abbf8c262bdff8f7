"""From raw network outputs to boxes: threshold, decode, non-maximum suppression.

Two engines give the same boxes in the same order: the NumPy twin (`decode.py` and `suppress.py`), which defines the
result, and the compiled core, which is used where it is built. Curves (sigmoid, exp, …) are computed in double and
rounded to float32; everything after that is float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lowwatt.runtime.core import Ends, choose
from lowwatt.runtime.decode import DECODERS, Found
from lowwatt.runtime.levels import Level, has_table, levels_of, table
from lowwatt.runtime.suppress import suppress
from lowwatt.types import Array, DetectionHead, Detections, Letterbox, QuantParams

Quants = Mapping[str, QuantParams | None]


class Postprocessor:
    """Boxes from the raw outputs of one network. What can be known before the first image is worked out once, here.

    `quants` holds the quantization of outputs that are raw integers; the others are float32 logits. An anchor's class
    is its greatest logit; its score (for YOLOX sigmoid(class) * sigmoid(objectness)) must reach `conf`. Greedy
    suppression within a class removes boxes whose IoU with a better one exceeds `iou`; at most `max_det` boxes stay.
    `engine`: "auto" takes the compiled core where it is built, else NumPy; both give the same. One object may be used
    by several threads.

    Rule: YOLOX (arXiv 2107.08430) as in the LPCV 2021 winner's settings: .01, .65, 300.
    ToolError where the core is asked for and is not built.

    >>> head = DetectionHead((8,), (("cls", "box", "obj"),), 1)
    >>> sure = np.full((1, 1, 2, 1), 9.0)
    >>> Postprocessor(head, {})({"cls": sure, "box": np.zeros((1, 1, 2, 4)), "obj": sure}, None).xyxy.tolist()
    [[-4.0, -4.0, 4.0, 4.0], [4.0, -4.0, 12.0, 4.0]]
    """

    def __init__(
        self,
        head: DetectionHead,
        quants: Quants,
        *,
        conf: float = 0.01,
        iou: float = 0.65,
        max_det: int = 300,
        names: Sequence[str] = (),
        engine: Ends = "auto",
    ) -> None:
        self._head, self._quants, self._names = head, dict(quants), tuple(names)
        self._conf, self._iou, self._max_det = conf, iou, max_det
        core = choose(engine)
        self._core: Any = None if core is None else self._compile(core)

    def __call__(self, outputs: Mapping[str, Array], box: Letterbox | None) -> Detections:
        """Boxes of one image, best score first (ties: lower anchor index first).

        `outputs` are (1, H, W, C) or (H, W, C) by name. `box` maps the boxes back to the source image; None leaves them
        in input pixels. ToolError where an output is absent or of another shape than the head says.
        """
        if self._core is not None:
            return Detections(*self._run_core(outputs, box), self._names)
        xyxy, score, label = self._run_numpy(levels_of(outputs, self._quants, self._head))
        return Detections(xyxy if box is None else box.to_source(xyxy), score, label, self._names)

    def batch(self, outputs: Mapping[str, Array], boxes: Iterable[Letterbox | None]) -> list[Detections]:
        """Boxes of each image of a batch, outputs (N, H, W, C), in order."""
        return [self({name: one[i] for name, one in outputs.items()}, box) for i, box in enumerate(boxes)]

    # -- the NumPy twin ------------------------------------------------------------------------------------

    def _run_numpy(self, levels: Sequence[Level]) -> Found:
        decode = DECODERS[self._head.kind].decode
        parts = [decode(level, np.float32(self._conf)) for level in levels]
        xyxy = np.concatenate([part[0] for part in parts])
        score = np.concatenate([part[1] for part in parts])
        label = np.concatenate([part[2] for part in parts])
        order = np.argsort(-score, kind="stable")
        xyxy, score, label = xyxy[order], score[order], label[order]
        keep = suppress(xyxy, label, np.float32(self._iou), self._max_det)
        return xyxy[keep], score[keep], label[keep]

    # -- the compiled core ---------------------------------------------------------------------------------

    def _compile(self, core: Any) -> Any:
        head = self._head
        tables = [self._tables(triple) for triple in head.outputs]
        settings = (self._conf, self._iou, self._max_det)
        return core.Postprocessor(head.kind, head.strides, head.outputs, head.num_classes, *settings, tables)

    def _tables(self, triple: tuple[str, str, str]) -> tuple[Array, Array, Array, Array] | None:
        classes, box, objectness = (self._quants.get(name) for name in triple)
        if not (classes and box and objectness and has_table(classes) and has_table(box) and has_table(objectness)):
            return None
        curves = DECODERS[self._head.kind]
        return (
            table(classes, curves.classes),
            table(box, curves.offset),
            table(box, curves.size),
            table(objectness, curves.objectness),
        )

    def _run_core(self, outputs: Mapping[str, Array], box: Letterbox | None) -> Found:
        found: Found
        numbers = None if box is None else box.numbers
        try:
            found = self._core.run(outputs, numbers, False)
        except (TypeError, ValueError):  # the outputs are not quite what is usual, or wrong
            levels = levels_of(outputs, self._quants, self._head)
            planes = [(level.classes, level.box, level.objectness) for level in levels]
            named = zip(self._head.outputs, planes, strict=True)
            usual = {name: plane for names, three in named for name, plane in zip(names, three, strict=True)}
            found = self._core.run(usual, numbers, True)
        return found


def postprocess(
    outputs: Mapping[str, Array],
    quants: Quants,
    head: DetectionHead,
    box: Letterbox | None,
    **settings: Any,
) -> Detections:
    """Boxes of one image: `Postprocessor(head, quants, **settings)` for a single use."""
    return Postprocessor(head, quants, **settings)(outputs, box)
