"""The compiled post-processing against its NumPy twin: any outputs, the same boxes in the same order."""

from __future__ import annotations

import dataclasses
import math
import sys
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lowwatt.errors import ToolError
from lowwatt.runtime.postprocess import Postprocessor
from lowwatt.types import Array, DetectionHead, Detections, Letterbox, QuantParams

pytest.importorskip("lowwatt._core")


@dataclasses.dataclass(frozen=True)
class Network:
    """A head with outputs as some network might give them."""

    head: DetectionHead
    outputs: dict[str, Array]
    quants: dict[str, QuantParams]

    def run(self, engine: str, box: Letterbox | None = None, **given: float) -> Detections:
        return Postprocessor(self.head, self.quants, engine=engine, **given)(self.outputs, box)  # type: ignore[arg-type]


KINDS = ("yolox", "fastestdet")
CONFS = (0.0, 0.01, 0.25, 0.9, 1.0, 1.1)


def network(
    seed: int = 0, kind: str = "yolox", classes: int = 3, height: int = 6, width: int = 9, spread: float = 2.0,
    quant: QuantParams | None = None,
) -> Network:  # fmt: skip
    """Random outputs of two strides; wide boxes, so that many overlap."""
    rng = np.random.default_rng(seed)
    names = tuple((f"cls_{s}", f"box_{s}", f"obj_{s}") for s in (8, 16))
    head = DetectionHead((8, 16), names, classes, kind)  # type: ignore[arg-type]
    outputs = {}
    for triple, part in zip(names, (1, 2), strict=True):
        for name, channels in zip(triple, (classes, 4, 1), strict=True):
            shape = (1, -(-height // part), -(-width // part), channels)
            outputs[name] = rng.normal(0.5, 0.7 if channels == 4 else spread, shape).astype(np.float32)
    if quant is None:
        return Network(head, outputs, {})
    steps = {name: np.rint(value / quant.scale) + quant.zero_point for name, value in outputs.items()}
    integers = {name: np.clip(value, -128, 127).astype(np.int8) for name, value in steps.items()}
    return Network(head, integers, dict.fromkeys(outputs, quant))


def assert_same(twin: Detections, core: Detections) -> None:
    """The order is that of the twin; logits of NumPy's and of C's exp may differ in their last bit."""
    assert core.xyxy.dtype == core.score.dtype == np.float32 and core.label.dtype == np.int64
    np.testing.assert_allclose(core.score, twin.score, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(core.label, twin.label)
    np.testing.assert_allclose(core.xyxy, twin.xyxy, rtol=1e-6, atol=1e-3)


FORMATS = (None, QuantParams.power_of_two(4), QuantParams.power_of_two(2), QuantParams(0.0931), QuantParams(0.07, 21))


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    classes=st.sampled_from([1, 2, 3, 15, 16, 33, 80, 131]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    spread=st.sampled_from([0.5, 2.0, 8.0, 300.0]),
    quant=st.sampled_from(FORMATS),
    conf=st.sampled_from(CONFS),
    iou=st.sampled_from([0.0, 0.3, 0.65, 1.0]),
    max_det=st.sampled_from([0, 1, 5, 300]),
    fitted=st.booleans(),
)
@example(1, "yolox", 80, 12, 12, 2.0, FORMATS[1], 0.01, 0.65, 300, True)
@example(1, "fastestdet", 80, 12, 12, 2.0, FORMATS[3], 0.01, 0.65, 300, True)
def test_equal_to_the_twin(
    seed: int, kind: str, classes: int, height: int, width: int, spread: float, quant: QuantParams | None,
    conf: float, iou: float, max_det: int, fitted: bool,
) -> None:  # fmt: skip
    one = network(seed, kind, classes, height, width, spread, quant)
    box = Letterbox.fit((61, 90), (8 * height, 8 * width), centre=True) if fitted else None
    chosen = {"conf": conf, "iou": iou, "max_det": max_det}
    assert_same(one.run("numpy", box, **chosen), one.run("core", box, **chosen))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quant", FORMATS)
def test_the_property_sees_boxes(kind: str, quant: QuantParams | None) -> None:
    """The random outputs are such that thresholds, suppression and the limit each take boxes away, and leave some."""
    one = network(kind=kind, quant=quant)
    every, sure = one.run("core", conf=0.0, iou=1.0), one.run("core", conf=0.25, iou=1.0)
    apart, few = one.run("core", conf=0.25, iou=0.3), one.run("core", conf=0.25, iou=0.3, max_det=3)
    assert len(every) == 69 > len(sure) > len(apart) > len(few) == 3
    np.testing.assert_array_equal(few.xyxy, apart.xyxy[:3])


@pytest.mark.parametrize("quantized", [False, True])
def test_all_but_one_suppressed(quantized: bool) -> None:
    one = network(classes=1, quant=FORMATS[1] if quantized else None)
    for name, value in one.outputs.items():
        if "box" in name:
            value[..., 2:] = 100  # every box covers the whole input, and far more: strides differ by 4 in area
    found = one.run("core", conf=0.0, iou=0.2)
    assert len(found) == 1 and found.score[0] == one.run("core", conf=0.0, iou=1.0).score.max()
    assert_same(one.run("numpy", conf=0.0, iou=0.2), found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-1e30, -1e4, 0.0, 1e4, 1e30])
def test_extreme_logits(kind: str, value: float) -> None:
    one = network(kind=kind)
    for plane in one.outputs.values():
        plane[...] = value
    found = one.run("core", Letterbox.fit((50, 70), (48, 72)), conf=0.0)
    assert np.isfinite(found.xyxy).all() and np.isfinite(found.score).all()
    assert_same(one.run("numpy", Letterbox.fit((50, 70), (48, 72)), conf=0.0), found)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_that_are_no_numbers_harm_nothing(kind: str) -> None:
    one = network(kind=kind)
    for name, plane in one.outputs.items():
        plane[0, 0] = -np.nan if "cls" in name else np.nan
        plane[0, 1] = np.nan
    assert one.run("core").label.max() < 3


def test_every_int8_is_read_as_its_real_value() -> None:
    """All pairs of class and objectness, at thresholds that lie on, beside and between the products."""
    head = DetectionHead((8,), (("c", "b", "o"),), 1)
    quant = QuantParams.power_of_two(4)
    every = np.arange(-128, 128, dtype=np.int8)
    classes, objectness = (plane[None, :, :, None] for plane in np.meshgrid(every, every))
    outputs = {"c": classes.copy(), "b": np.zeros((1, 256, 256, 4), np.int8), "o": objectness.copy()}
    p = 1 / (1 + np.exp(every / -16.0))
    for conf in (0.01, float(np.float32(p[100]) * np.float32(p[200])), 0.3333, 0.95):
        found = Postprocessor(head, dict.fromkeys("cbo", quant), conf=conf, iou=1.0, max_det=1 << 20)(outputs, None)
        product = np.outer(p.astype(np.float32), p.astype(np.float32)).ravel()
        np.testing.assert_allclose(found.score, np.sort(product[product >= np.float32(conf)])[::-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_batch_is_its_images(quantized: bool) -> None:
    parts = [network(seed, quant=FORMATS[1] if quantized else None) for seed in range(4)]
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs}
    boxes = [Letterbox.fit((40 + i, 90), (48, 72)) for i in range(4)]
    found = Postprocessor(parts[0].head, parts[0].quants, engine="core").batch(outputs, boxes)
    for one, part, box in zip(found, parts, boxes, strict=True):
        assert_same(part.run("numpy", box), one)
    assert len({len(one) for one in found}) > 1


@pytest.mark.parametrize("quantized", [False, True])
def test_strided_outputs(quantized: bool) -> None:
    """onnxruntime gives NCHW; its NHWC is a view."""
    one = network(quant=FORMATS[1] if quantized else None)
    views = {n: np.ascontiguousarray(v.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1) for n, v in one.outputs.items()}
    assert not views["cls_8"].flags.c_contiguous
    assert_same(one.run("numpy"), Network(one.head, views, one.quants).run("core"))


@pytest.mark.parametrize("kind", ["float64", "int16", "one output real"])
def test_unusual_types_are_read_as_the_twin_reads_them(kind: str) -> None:
    one = network(quant=None if kind == "float64" else FORMATS[1])
    if kind == "one output real":
        quants = {name: quant for name, quant in one.quants.items() if name != "box_8"}
        outputs = {**one.outputs, "box_8": one.outputs["box_8"].astype(np.float32) / 16}
        assert_same(one.run("core"), Network(one.head, outputs, quants).run("core"))
        return
    outputs = {name: value.astype(kind) for name, value in one.outputs.items()}
    assert_same(one.run("core"), Network(one.head, outputs, one.quants).run("core"))
    assert_same(one.run("numpy"), Network(one.head, outputs, one.quants).run("core"))


def test_one_object_in_several_threads() -> None:
    nets = [network(seed, classes=80, height=40, width=40, quant=FORMATS[1]) for seed in range(4)]
    shared = Postprocessor(nets[0].head, nets[0].quants, engine="core")
    expected = [net.run("numpy") for net in nets]
    failed: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(20):
                assert_same(expected[index], shared(nets[index].outputs, None))
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_without_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    one = network()
    fast = one.run("auto")
    monkeypatch.setitem(sys.modules, "lowwatt._core", None)
    monkeypatch.delattr("lowwatt._core")
    assert_same(one.run("auto"), fast)
    with pytest.raises(ToolError, match="not built"):
        one.run("core")


def test_scores_are_what_the_formula_says() -> None:
    """One anchor by hand: sigmoid(2) * sigmoid(1), centre (0.5 + cell) * 8, sides 8 * e ** 0.5."""
    head = DetectionHead((8,), (("c", "b", "o"),), 2)
    quant = QuantParams.power_of_two(4)
    outputs = {
        "c": np.array([[[[0, 32]]]], np.int8),
        "b": np.array([[[[8, 8, 8, 8]]]], np.int8),
        "o": np.array([[[[16]]]], np.int8),
    }
    found = Postprocessor(head, dict.fromkeys("cbo", quant), engine="core")(outputs, None)
    half = 4 * math.exp(0.5)
    np.testing.assert_allclose(found.score, [1 / (1 + math.exp(-2)) / (1 + math.exp(-1))], atol=1e-6)
    np.testing.assert_allclose(found.xyxy, [[4 - half, 4 - half, 4 + half, 4 + half]], atol=1e-5)
    assert found.label.tolist() == [1]
