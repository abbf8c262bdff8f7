"""Post-processing: a plain-Python oracle, the twin and the core agree; wrong outputs are named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.errors import ToolError
from lowwatt.runtime.postprocess import postprocess
from lowwatt.types import Array, DetectionHead, Detections, Letterbox, QuantParams

NAMES = tuple((f"cls_{s}", f"box_{s}", f"obj_{s}") for s in (8, 16))
HEAD = DetectionHead((8, 16), NAMES, 3)
QUANTS = {name: QuantParams.power_of_two(4) for triple in NAMES for name in triple}


def random_outputs(seed: int, quantized: bool, size: int = 6) -> dict[str, Array]:
    """Outputs of a head that sees something nearly everywhere: many boxes, many overlaps, many equal scores."""
    rng = np.random.default_rng(seed)
    found = {}
    for triple, side in zip(NAMES, (size, size // 2), strict=True):
        for name, channels in zip(triple, (3, 4, 1), strict=True):
            real = rng.normal(0.5, 1.5, (1, side, side, channels))
            raw = np.clip(np.rint(real * 16), -128, 127).astype(np.int8)
            found[name] = raw if quantized else real.astype(np.float32)
    return found


def oracle(outputs: dict[str, Array], conf: float, iou: float, max_det: int) -> list[tuple[list[float], float, int]]:
    """The definition, anchor by anchor in plain Python on real values."""
    boxes = []
    for stride, (cls, box, obj) in zip(HEAD.strides, HEAD.outputs, strict=True):
        _, height, width, _ = outputs[cls].shape
        for y in range(height):
            for x in range(width):
                logits = [float(v) for v in outputs[cls][0, y, x]]
                label = logits.index(max(logits))
                score = 1 / (1 + math.exp(-logits[label])) / (1 + math.exp(-float(outputs[obj][0, y, x, 0])))
                dx, dy, dw, dh = (float(v) for v in outputs[box][0, y, x])
                cx, cy, w, h = (dx + x) * stride, (dy + y) * stride, math.exp(dw) * stride, math.exp(dh) * stride
                boxes.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], score, label))
    kept: list[tuple[list[float], float, int]] = []
    for new in sorted((b for b in boxes if b[1] >= conf), key=lambda b: -b[1]):
        if len(kept) < max_det and all(old[2] != new[2] or overlap(old[0], new[0]) <= iou for old in kept):
            kept.append(new)
    return kept


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def same(a: Detections, b: Detections) -> None:
    np.testing.assert_allclose(a.score, b.score, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(a.label, b.label)
    np.testing.assert_allclose(a.xyxy, b.xyxy, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("engine", ["numpy", "core"])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition(engine: str, quantized: bool, seed: int) -> None:
    outputs = random_outputs(seed, quantized)
    quants = QUANTS if quantized else {}
    real = {k: QUANTS[k].dequantize(v) if quantized else v for k, v in outputs.items()}
    expected = oracle(real, 0.3, 0.45, 20)
    found = postprocess(outputs, quants, HEAD, None, conf=0.3, iou=0.45, max_det=20, engine=engine)  # type: ignore[arg-type]
    assert 3 < len(expected) <= 20
    np.testing.assert_allclose(found.score, [e[1] for e in expected], atol=1e-6)
    if len({round(e[1], 6) for e in expected}) == len(expected):
        np.testing.assert_array_equal(found.label, [e[2] for e in expected])
        np.testing.assert_allclose(found.xyxy, [e[0] for e in expected], rtol=1e-5, atol=1e-3)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    quantized=st.booleans(),
    conf=st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 1.0]),
    iou=st.sampled_from([0.0, 0.3, 0.65, 1.0]),
    max_det=st.sampled_from([0, 1, 5, 300]),
)
def test_core_equals_twin(seed: int, quantized: bool, conf: float, iou: float, max_det: int) -> None:
    pytest.importorskip("lowwatt._core")
    outputs = random_outputs(seed, quantized)
    arguments = (outputs, QUANTS if quantized else {}, HEAD, Letterbox.fit((60, 90), (48, 48)))
    twin = postprocess(*arguments, conf=conf, iou=iou, max_det=max_det, engine="numpy")
    fast = postprocess(*arguments, conf=conf, iou=iou, max_det=max_det, engine="core")
    same(twin, fast)
    np.testing.assert_array_equal(twin.xyxy, fast.xyxy)


@pytest.mark.parametrize("engine", ["numpy", "core"])
def test_equal_scores_keep_anchor_order(engine: str) -> None:
    head = DetectionHead((8,), (("c", "b", "o"),), 2)
    sure = np.full((1, 2, 3, 1), 5.0, np.float32)
    outputs = {"c": np.repeat(sure, 2, axis=3), "b": np.zeros((1, 2, 3, 4), np.float32), "o": sure}
    found = postprocess(outputs, {}, head, None, engine=engine)  # type: ignore[arg-type]
    centres = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 16
    assert centres.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert found.label.tolist() == [0] * 6


@pytest.mark.parametrize("engine", ["numpy", "core"])
def test_overlap_matters_within_a_class_alone(engine: str) -> None:
    head = DetectionHead((8,), (("c", "b", "o"),), 2)
    box = np.array([[[[1, 0, 1, 1], [0, 0, 1, 1]]]], np.float32)
    for logits, kept in (([[9, 0], [8, 0]], 1), ([[9, 0], [0, 8]], 2)):
        outputs = {"c": np.array([[logits]], np.float32), "b": box, "o": np.full((1, 1, 2, 1), 9, np.float32)}
        found = postprocess(outputs, {}, head, None, engine=engine)  # type: ignore[arg-type]
        assert len(found) == kept
        assert (np.diff(found.score) <= 0).all()


@pytest.mark.parametrize("engine", ["numpy", "core"])
@pytest.mark.parametrize("quantized", [False, True])
def test_nothing_found(engine: str, quantized: bool) -> None:
    outputs = random_outputs(0, quantized)
    found = postprocess(outputs, QUANTS if quantized else {}, HEAD, None, conf=1.1, names=["a"], engine=engine)  # type: ignore[arg-type]
    assert found.xyxy.shape == (0, 4) and found.score.shape == found.label.shape == (0,)
    assert found.names == ("a",)


@pytest.mark.parametrize("engine", ["numpy", "core"])
def test_extreme_logits_stay_finite(engine: str) -> None:
    outputs = {k: np.full_like(v, 1e4) for k, v in random_outputs(0, False).items()}
    found = postprocess(outputs, {}, HEAD, Letterbox.fit((50, 50), (48, 48)), engine=engine)  # type: ignore[arg-type]
    assert len(found) > 0 and np.isfinite(found.xyxy).all()


def test_boxes_come_back_to_the_source_image() -> None:
    head = DetectionHead((8,), (("c", "b", "o"),), 1)
    sure = np.full((1, 1, 1, 1), 9.0, np.float32)
    outputs = {"c": sure, "b": np.array([[[[2, 2, 0, 0]]]], np.float32), "o": sure}
    box = Letterbox((100, 200), (50, 100), 0.5, left=4, top=2)
    assert postprocess(outputs, {}, head, box).xyxy.tolist() == [[16.0, 20.0, 32.0, 36.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_8": None}, "no such output"),
        ({"cls_8": (1, 6, 6, 4)}, "does not fit the detection head"),
        ({"obj_16": (2, 3, 3, 1)}, "does not fit the detection head"),
        ({"box_16": (1, 2, 3, 4)}, "differ in size"),
    ],
)
def test_wrong_outputs_are_named(change: dict[str, tuple[int, ...] | None], message: str) -> None:
    outputs = random_outputs(0, False)
    for name, shape in change.items():
        if shape is None:
            del outputs[name]
        else:
            outputs[name] = np.zeros(shape, np.float32)
    with pytest.raises(ToolError, match=message) as error:
        postprocess(outputs, {}, HEAD, None)
    assert next(iter(change)) in error.value.where
