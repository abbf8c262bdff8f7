"""Classifiers that were trained elsewhere: recognised, given pixels as they want them, and scored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from foreign_heads import SIZE, classifier, yolox
from lowwatt.backends import open_backend
from lowwatt.data.folder import read_classes
from lowwatt.errors import ToolError
from lowwatt.ir import meta, onnx_writer
from lowwatt.ir.heads import attach_head
from lowwatt.ir.heads.pixels import CONVENTIONS, Pixels, convention, take_pixels
from lowwatt.letterbox import letterbox
from lowwatt.loading import load_with_head
from lowwatt.runtime import Engine
from lowwatt.runtime.classifier import Classifier
from lowwatt.types import ClassHead, Preprocess
from lowwatt.verbs.evaluate import evaluate_file

IMAGE = np.random.default_rng(3).integers(0, 256, (1, *SIZE, 3)).astype(np.float32)


@pytest.mark.parametrize("word", CONVENTIONS)
def test_pixels_are_what_the_network_takes(word: str) -> None:
    """Also at the borders, where the network's own zeros stand for other pixels than black ones."""
    pixels = convention(word)
    given = (IMAGE[..., ::-1] if pixels.rgb else IMAGE) * np.float32(pixels.scale) + np.float32(pixels.shift)
    graph = classifier(padded=True)
    before = open_backend("onnxruntime", graph).run({"images": given.astype(np.float32)})["scores"]
    take_pixels(graph, pixels)
    after = open_backend("onnxruntime", graph.verify()).run({"images": IMAGE})["scores"]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_pixels_that_do_not_fit() -> None:
    with pytest.raises(ToolError, match="no way to give pixels") as error:
        attach_head(classifier(), pixels="torhc")
    assert error.value.hint == 'did you mean "torch"?'
    with pytest.raises(ToolError, match="do not fit"):
        take_pixels(classifier(), Pixels("", (1.0, 2.0)))


def test_a_classifier_is_cut_before_its_softmax() -> None:
    graph = classifier()
    line = attach_head(graph)
    assert line.startswith("recognised a classifier: 4 classes (numbered)") and "taken to be tf" in line
    assert graph.outputs == ["scores"] and all(node.op != "softmax" for node in graph.nodes)
    assert meta.classifier(graph) == ClassHead("scores", 4) and meta.preprocess(graph).fit == "crop"
    with pytest.raises(ToolError, match="no detection head") as error:
        Engine(graph)
    assert error.value.why == "it is a classifier"
    with pytest.raises(ToolError, match="has 4 classes, not 3"):
        attach_head(classifier(), ("cat", "dog", "cow"))
    with pytest.raises(ToolError, match="no classifier"):
        Classifier(yolox())


def test_eval_of_a_classifier(tmp_path: Path) -> None:
    """Top-k as counted by hand, and the same from the file that states its head."""
    path, told = tmp_path / "net.onnx", list[str]()
    onnx_writer.write(classifier(), path)
    images = np.random.default_rng(1).integers(0, 256, (6, *SIZE, 3), np.uint8)
    (tmp_path / "images").mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"images/{index}.png"), image)
    (tmp_path / "labels.txt").write_text("".join(f"{i}.png {i % 4} n0{i}\n" for i in range(6)))
    session = open_backend("onnxruntime", classifier())
    rgb = images[..., ::-1].astype(np.float32)
    scores = session.run(
        {"images": (rgb / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])}
    )
    right = scores["scores"].argmax(axis=1) == np.arange(6) % 4
    table = evaluate_file(path, str(tmp_path), "val.json", "onnxruntime", 0, tell=told.append)
    assert table == {"top1": right.mean(), "top5": 1.0, "images": 6} and "taken to be torch" in told[0]
    graph, _ = load_with_head(path)
    onnx_writer.write(graph, path)
    assert evaluate_file(path, str(tmp_path), "val.json", "onnxruntime", 0, tell=told.append) == table
    assert len(told) == 1, "a file that states its head needs no working out"
    (tmp_path / "labels.txt").write_text("0.png 4\n")
    with pytest.raises(ToolError, match="classes that the classifier lacks"):
        evaluate_file(path, str(tmp_path), "val.json", "onnxruntime", 0)
    for text, reason in (("0.png\n", "needs a file"), ("\n", "no images")):
        (tmp_path / "labels.txt").write_text(text)
        with pytest.raises(ToolError, match=reason):
            read_classes(tmp_path)
    with pytest.raises(ToolError, match="cannot read the labels"):
        read_classes(tmp_path / "images")


def test_an_image_of_the_inputs_size_is_not_cropped() -> None:
    preprocess = Preprocess((64, 64), 3, fit="crop")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(letterbox(image, preprocess)[0], image)
    wide = np.zeros((80, 160, 3), np.uint8)
    wide[5:75, 45:115] = 255
    assert letterbox(wide, preprocess)[0].min() == 255, "70 of 80 rows, and as many columns"


def test_a_published_classifier(shared: Path) -> None:
    path = shared / "data" / "weights" / "mobilenetv2_float32.onnx"
    if not path.is_file():
        pytest.skip("the weights are not here")
    graph, line = load_with_head(path)
    assert "1000 classes (numbered), 224x224" in line and "rounds at run time" in line
    data = read_classes(shared / "data" / "imagenet_val300").first(20)
    network = Classifier(graph, "onnxruntime")
    whole = open_backend("onnxruntime", path)
    for image, scores in zip(data.images, network.stream([i.path for i in data.images]), strict=True):
        pixels = cv2.imread(str(image.path))[None, ..., ::-1].astype(np.float32) / np.float32(127.5) - 1
        (shares,) = whole.run({whole.inputs[0]: pixels}).values()
        powers = np.exp(scores - scores.max())
        np.testing.assert_allclose(powers / powers.sum(), shares[0], atol=0.05)
