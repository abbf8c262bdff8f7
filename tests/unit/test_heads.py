"""Networks that were trained elsewhere: their heads are recognised, cut off, and read by our own post-processing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from foreign_heads import CLASSES, SIZE, fastestdet, yolox
from lowwatt.backends import open_backend
from lowwatt.errors import ToolError
from lowwatt.ir import meta, onnx_writer
from lowwatt.ir.graph import Graph
from lowwatt.ir.heads import attach_head
from lowwatt.ir.heads.pixels import convention, take_pixels
from lowwatt.letterbox import letterbox
from lowwatt.loading import load, load_graph, load_with_head, read_labels
from lowwatt.runtime import Engine
from lowwatt.runtime.postprocess import postprocess
from lowwatt.types import Array, Detections, Preprocess, QuantParams
from lowwatt.verbs.evaluate import evaluate_file, relabelled

LABELS = ("cat", "dog", "cow")
IMAGE = np.random.default_rng(3).integers(0, 256, (1, *SIZE, 3)).astype(np.float32)


def sorted_rows(table: Array) -> Array:
    return table[np.lexsort(table.T)]


@pytest.mark.parametrize("decoded", [False, True])
def test_the_cut_network_gives_the_boxes_of_the_whole(decoded: bool) -> None:
    """Every anchor's box, score and class, by our post-processing and by the file's own decoding."""
    whole = yolox(decoded=True)
    (anchors,) = open_backend("onnxruntime", whole).run({"images": IMAGE})["decoded"]
    xyxy = np.concatenate([anchors[:, :2] - anchors[:, 2:4] / 2, anchors[:, :2] + anchors[:, 2:4] / 2], axis=1)
    score = anchors[:, 4] * anchors[:, 5:].max(axis=1)
    cut = yolox(decoded)
    line = attach_head(cut, LABELS)
    assert ("decoded boxes" if decoded else "raw boxes") in line and "strides 8, 16" in line
    outputs = open_backend("onnxruntime", cut).run({"images": IMAGE})
    found = postprocess(outputs, {}, meta.head(cut), None, conf=0.0, iou=1.0, max_det=10_000)
    expected = np.column_stack([xyxy, score, anchors[:, 5:].argmax(axis=1)])
    given = np.column_stack([found.xyxy, found.score, found.label])
    np.testing.assert_allclose(sorted_rows(given), sorted_rows(expected), rtol=1e-4, atol=1e-3)


def test_fastestdet_gives_its_authors_boxes() -> None:
    """Against handle_preds of its repository, in its own words: obj^.6 * cls^.4, tanh, sigmoid."""
    pred = open_backend("onnxruntime", fastestdet()).run({"images": IMAGE / 255})["map"][0].astype(np.float64)
    rows, columns, _ = pred.shape
    gy, gx = np.mgrid[:rows, :columns]
    width, height = (1 / (1 + np.exp(-pred[..., c])) for c in (3, 4))
    x, y = (np.tanh(pred[..., 1]) + gx) / columns, (np.tanh(pred[..., 2]) + gy) / rows
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)
    score = pred[..., 0] ** 0.6 * pred[..., 5:].max(axis=-1) ** 0.4
    expected = np.column_stack(
        [(corners * [*SIZE[::-1], *SIZE[::-1]]).reshape(-1, 4), score.ravel(), pred[..., 5:].argmax(axis=-1).ravel()]
    )
    cut = fastestdet()
    assert "stride 16" in attach_head(cut, LABELS) and cut.outputs == ["cls_16", "box_16", "obj_16"]
    assert meta.preprocess(cut) == Preprocess(SIZE, 3, fit="stretch") and meta.head(cut).kind == "fastestdet"
    outputs = open_backend("onnxruntime", cut).run({"images": IMAGE})
    for engine in ("numpy", "auto"):
        found = postprocess(outputs, {}, meta.head(cut), None, conf=0.0, iou=1.0, engine=engine)
        given = np.column_stack([found.xyxy, found.score, found.label])
        np.testing.assert_allclose(sorted_rows(given), sorted_rows(expected), rtol=1e-4, atol=1e-3)


def test_integers_of_a_fastestdet_are_their_real_values() -> None:
    cut = fastestdet()
    attach_head(cut, LABELS)
    quant = QuantParams.power_of_two(4)
    real = open_backend("onnxruntime", cut).run({"images": IMAGE})
    integers = {name: np.clip(np.rint(value * 16), -128, 127).astype(np.int8) for name, value in real.items()}
    rounded = {name: value.astype(np.float32) / 16 for name, value in integers.items()}
    found = postprocess(integers, dict.fromkeys(integers, quant), meta.head(cut), None)
    expected = postprocess(rounded, {}, meta.head(cut), None)
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    np.testing.assert_array_equal(found.score, expected.score)


def test_a_stretched_image_and_its_way_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 200, 3), np.uint8)
    pixels, box = letterbox(image, Preprocess((64, 96), 3, fit="stretch"))
    np.testing.assert_array_equal(pixels, cv2.resize(image, (96, 64)))
    np.testing.assert_allclose(
        box.to_source(np.array([[0, 0, 96, 64], [48, 16, 96, 32]])), [[0, 0, 200, 50], [100, 12.5, 200, 25]]
    )
    np.testing.assert_allclose(box.to_input(box.to_source(np.array([[3, 4, 50, 60]]))), [[3, 4, 50, 60]], rtol=1e-6)


def test_pixels_are_scaled_in_the_first_layer_or_in_front_of_it() -> None:
    graph = fastestdet()
    before = open_backend("onnxruntime", graph).run({"images": IMAGE / 255})["map"]
    read_twice = fastestdet()
    read_twice.outputs.append(read_twice.add("max_pool", ["images"], "small", kernel=(2, 2), stride=(2, 2)))
    for net, layers in ((graph, 3), (read_twice, 4)):
        take_pixels(net, convention("unit-bgr"))
        assert sum(node.op == "conv2d" for node in net.verify().nodes) == layers
        np.testing.assert_allclose(open_backend("onnxruntime", net).run({"images": IMAGE})["map"], before, atol=1e-5)


def test_what_the_meta_says() -> None:
    graph = yolox()
    attach_head(graph, LABELS)
    assert graph.outputs == ["cls_8", "box_8", "obj_8", "cls_16", "box_16", "obj_16"]
    assert meta.preprocess(graph) == Preprocess(SIZE, 3, pad_value=114)
    assert meta.head(graph).strides == (8, 16) and meta.head(graph).num_classes == CLASSES
    assert meta.labels(graph) == LABELS and meta.category_ids(graph) == (1, 2, 3)
    assert graph.node("cls_8").origin == "net.c8", "the user's layer keeps its name"
    assert {node.op for node in graph.nodes} == {"conv2d"}
    assert attach_head(graph) == "", "a head that is stated stays as it is"


def test_eighty_classes_are_cocos() -> None:
    graph = yolox(classes=80)
    assert "80 classes (COCO)" in attach_head(graph)
    assert meta.labels(graph)[:2] == ("person", "bicycle") and meta.category_ids(graph)[-1] == 90


def broken(kind: str) -> Graph:
    graph = yolox(decoded=kind == "grid")
    if kind == "grid":
        graph.tensor("grid").data = graph.tensor("grid").data + np.float32(0.5)
    elif kind == "gate":
        graph.node("o8.sigmoid").op = "relu"
    elif kind == "outputs":
        graph.outputs.append("c8")
    elif kind == "skip":
        graph.outputs = [
            graph.add(
                "mul", ["listed", graph.add("reduce_mean", ["images"], "m", axes=(1, 2, 3), keepdims=False)], "scaled"
            )
        ]
    return graph


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("grid", "not YOLOX's list of anchors"),
        ("gate", "hangs on more than"),
        ("outputs", "it has 2 outputs"),
        ("skip", "hangs on more than"),
    ],
)
def test_another_tail_is_refused_with_its_reason(kind: str, reason: str) -> None:
    graph = broken(kind)
    with pytest.raises(ToolError, match="no detection head") as error:
        attach_head(graph, LABELS)
    assert reason in error.value.why and "head" not in graph.meta


def test_names_are_needed_and_counted(tmp_path: Path) -> None:
    graph = yolox()
    with pytest.raises(ToolError, match="no names") as error:
        attach_head(graph)
    assert "--labels" in error.value.hint and graph.outputs == ["listed"], "a refused graph stays whole"
    with pytest.raises(ToolError, match="has 3 classes, not 2"):
        attach_head(graph, ["cat", "dog"])
    (tmp_path / "names.txt").write_text("cat\n\n dog \ncow\n")
    assert read_labels(tmp_path / "names.txt") == ["cat", "dog", "cow"]
    with pytest.raises(ToolError, match="cannot read the class names"):
        read_labels(tmp_path)


def test_files_open_whole_or_with_a_head(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx_writer.write(yolox(classes=80), path)
    assert load(path).outputs == load_graph(path).outputs == ["listed"]
    graph, line = load_with_head(path)
    assert line.startswith("recognised a YOLOX detector") and len(graph.outputs) == 6
    onnx_writer.write(graph, path)
    again, line = load_with_head(path)
    assert line == "" and again.outputs == graph.outputs and meta.head(again) == meta.head(graph)
    onnx_writer.write(broken("grid"), path)
    with pytest.raises(ToolError, match="no detection head") as error:
        load_with_head(path)
    assert error.value.where == str(path)


def test_the_engine_leaves_the_callers_graph_whole() -> None:
    graph = yolox(classes=80)
    engine = Engine(graph, "onnxruntime", conf=0.3)
    assert graph.outputs == ["listed"] and "head" not in graph.meta
    assert set(engine(IMAGE[0].astype(np.uint8)).detections.names) > {"person"}


def test_labels_of_another_data_set() -> None:
    found = Detections(np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.array([0, 1, 2]), LABELS)
    moved = relabelled(found, ("cow", "cat"))
    assert moved.label.tolist() == [1, 0] and moved.names == ("cow", "cat")
    assert relabelled(found, LABELS) is found


def test_eval_of_a_foreign_file(tmp_path: Path) -> None:
    """Scored on the classes that data set and detector share, whatever their order; what was worked out is told."""
    path = tmp_path / "net.onnx"
    onnx_writer.write(yolox(), path)
    (tmp_path / "names.txt").write_text("\n".join(LABELS))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), IMAGE[0].astype(np.uint8))
    box = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [8, 8, 20, 20], "area": 400}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIZE[1], "height": SIZE[0]}],
        "annotations": [box],
        "categories": [{"id": 4, "name": "bird"}, {"id": 9, "name": "cow"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(content))
    told: list[str] = []
    arguments = (path, str(tmp_path), "val.json", "onnxruntime", 0)
    table = evaluate_file(*arguments, labels=tmp_path / "names.txt", tell=told.append)
    assert list(table["per_class"]) == ["cow"] and 0 <= table["ap"] <= 1 and len(told) == 1
    (tmp_path / "names.txt").write_text("a\nb\nc")
    with pytest.raises(ToolError, match="no class of the data set"):
        evaluate_file(*arguments, labels=tmp_path / "names.txt")


def test_a_published_yolox(shared: Path) -> None:
    """Megvii's own file: what is cut off gives the same boxes as the file does."""
    path = shared / "data" / "weights" / "yolox_nano_416.onnx"
    if not path.is_file():
        pytest.skip("the weights are not here")
    graph, line = load_with_head(path)
    assert "80 classes (COCO)" in line and "strides 8, 16, 32, 416x416" in line
    image = np.random.default_rng(0).integers(0, 256, (1, 416, 416, 3)).astype(np.float32)
    (anchors,) = open_backend("onnxruntime", path).run({"images": image.transpose(0, 3, 1, 2)})["output"]
    outputs = open_backend("onnxruntime", graph).run({"images": image})
    raw = np.concatenate([outputs[f"box_{stride}"].reshape(-1, 4) for stride in (8, 16, 32)])
    np.testing.assert_allclose(raw, anchors[:, :4], atol=1e-4)
    classes = np.concatenate([outputs[f"cls_{stride}"].reshape(-1, 80) for stride in (8, 16, 32)])
    np.testing.assert_allclose(1 / (1 + np.exp(-classes)), anchors[:, 5:], atol=1e-5)


def test_a_published_fastestdet(shared: Path) -> None:
    path = shared / "data" / "weights" / "FastestDet.onnx"
    if not path.is_file():
        pytest.skip("the weights are not here")
    graph, line = load_with_head(path)
    assert line.startswith("recognised a FastestDet: 80 classes (COCO), stride 16, 352x352")
    image = np.random.default_rng(0).integers(0, 256, (1, 352, 352, 3)).astype(np.float32)
    (whole,) = open_backend("onnxruntime", path).run({"input.1": image.transpose(0, 3, 1, 2) / 255}).values()
    outputs = open_backend("onnxruntime", graph).run({"input.1": image})
    np.testing.assert_allclose(outputs["box_16"][0], whole[0, 1:5].transpose(1, 2, 0), atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-outputs["obj_16"][0, ..., 0])), whole[0, 0], atol=1e-4)
