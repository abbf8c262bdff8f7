"""Segmentation: masks, crops, weights of classes, the metric, and the road from training to the score."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.backends import open_backend  # noqa: E402
from lowwatt.compiler import Program  # noqa: E402
from lowwatt.compiler.rules import check  # noqa: E402
from lowwatt.data.crop import scale_crop, shrunk, warp  # noqa: E402
from lowwatt.data.items import MaskLoader  # noqa: E402
from lowwatt.data.masks import MaskData, open_masks, read_masks  # noqa: E402
from lowwatt.data.splits import open_splits  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.evaluate.miou import counted, mean_iou  # noqa: E402
from lowwatt.evaluate.report import Report  # noqa: E402
from lowwatt.ir import meta, onnx_reader, onnx_writer  # noqa: E402
from lowwatt.letterbox import letterbox  # noqa: E402
from lowwatt.loading import load_graph  # noqa: E402
from lowwatt.models.networks import preprocess_of  # noqa: E402
from lowwatt.recipe import DataSettings, Recipe  # noqa: E402
from lowwatt.runtime.draw import class_colour, overlay  # noqa: E402
from lowwatt.runtime.segmenter import Segmenter, class_map  # noqa: E402
from lowwatt.targets import load_target  # noqa: E402
from lowwatt.training.log import read_log  # noqa: E402
from lowwatt.training.processes import Processes  # noqa: E402
from lowwatt.training.segmentation import SegmentationTask, class_weights  # noqa: E402
from lowwatt.types import UNSCORED, Letterbox, Preprocess, SegmentationHead  # noqa: E402
from lowwatt.verbs.compile import untrained_graph  # noqa: E402
from lowwatt.verbs.evaluate import evaluate_file  # noqa: E402
from lowwatt.verbs.produce import Road  # noqa: E402
from lowwatt.verbs.quantize import QuantizeJob, quantize_file  # noqa: E402
from small_tasks import Quiet, mask_folders, recipe_of  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return mask_folders(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def road(tmp_path_factory, folder: Path) -> Path:
    """Folder of a whole production run."""
    out = tmp_path_factory.mktemp("road")
    recipe = recipe_of("segmentation", folder, scale=(0.8, 1.5), epochs=16, batch=4, lr=0.1)
    Road(recipe, out, listener=lambda line: None, progress=Quiet).produce()
    return out


def test_masks_are_read_with_what_is_not_scored(folder: Path) -> None:
    train, val = open_masks(DataSettings(root=str(folder)), 9)
    assert train.labels == ("class 0", "class 1") and (len(train), len(val)) == (24, 8)
    mask = val.mask(0)
    assert mask.shape == (64, 48) and set(np.unique(mask)) == {0, 1, UNSCORED} and (mask[:4] == UNSCORED).all()
    named = open_masks(DataSettings(root=str(folder), classes=["ground", "disc", "sky"]), 9, ("val",))[0]
    assert named.labels == ("ground", "disc", "sky")


def test_masks_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="unknown class") as error:
        read_masks(folder / "val", ("ground", "disc"), 200).mask(0)
    assert "class 9" in error.value.why and "segmentation.ignore" in error.value.hint
    with pytest.raises(ToolError, match="no sample set of masks"):
        open_splits(Recipe(task="segmentation"))
    with pytest.raises(ToolError, match="no image with a mask"):
        read_masks(tmp_path, ("a", "b"))
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ToolError, match="an image has no mask"):
        read_masks(tmp_path, ("a", "b"))
    cv2.imwrite(str(tmp_path / "masks/a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ToolError, match="cannot read the mask"):
        read_masks(tmp_path, ("a", "b")).mask(0)
    cv2.imwrite(str(tmp_path / "masks/a.png"), np.zeros((8, 9), np.uint8))
    recipe = recipe_of("segmentation", tmp_path)
    with pytest.raises(ToolError, match="differ in size"):
        MaskLoader(read_masks(tmp_path, ("a", "b")), recipe, preprocess_of(recipe)).decoded(0)


def test_an_image_and_its_mask_are_cropped_alike() -> None:
    """An image that is its own mask stays so, at any scale and place; outside of it nothing is scored."""
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:44, 30:62] = 200
    for _ in range(50):
        matrix = scale_crop(60, 80, 64, rng, (0.5, 2.0))
        image, found = warp(mask[..., None], matrix, 64), warp(mask, matrix, 64, UNSCORED, exact=True)
        assert set(np.unique(found)) <= {0, 200, UNSCORED}
        inside = cv2.erode((found == 200).astype(np.uint8), np.ones((3, 3))) > 0
        outside = cv2.erode((found == 0).astype(np.uint8), np.ones((3, 3))) > 0
        assert (image[inside] == 200).all() and (image[outside] == 0).all()
    assert shrunk(mask, 30, exact=True).shape == (30, 40) and shrunk(mask, 100) is mask


def test_plain_epochs_show_what_the_test_shows(folder: Path) -> None:
    recipe = recipe_of("segmentation", folder, flip=0.0)
    data, preprocess = open_splits(recipe)[0], preprocess_of(recipe)
    image, mask = MaskLoader(data, recipe, preprocess).plain(3, np.random.default_rng(0))
    shown, box = letterbox(cv2.imread(str(data.images[3].path), 0)[..., None], preprocess)
    assert box.resized == (64, 48) and np.array_equal(image, shown)
    assert np.array_equal(mask[:, :48], data.mask(3)) and (mask[:, 48:] == UNSCORED).all()


def test_weights_of_classes(folder: Path) -> None:
    data = open_splits(recipe_of("segmentation", folder))[0]
    values = np.concatenate([data.mask(i).ravel() for i in range(len(data))])
    shares = np.bincount(values[values != UNSCORED]) / (values != UNSCORED).sum()
    plain, full = class_weights(data, 0.0), class_weights(data, 1.0)
    assert plain.tolist() == [1, 1]
    assert full[1] / full[0] == pytest.approx(shares[0] / shares[1], rel=1e-5)
    assert (full * shares).sum() == pytest.approx(1, rel=1e-5)
    with pytest.raises(ToolError, match="no pixel"):
        class_weights(MaskData(data.source, (), data.labels), 1.0)


def test_the_loss_of_two_processes_is_that_of_one(folder: Path) -> None:
    recipe = recipe_of("segmentation", folder)
    task = SegmentationTask(recipe, *open_splits(recipe), Processes(recipe.train))
    (batch, *_) = task.loader.epoch(0, True)
    scores = torch.randn(6, 2, 16, 16)
    whole = task.loss(scores, torch.zeros(1), batch, False)["loss"]
    up = torch.nn.functional.interpolate(scores, size=(64, 64), mode="bilinear")
    masks = torch.from_numpy(batch.masks).long()
    wanted = torch.nn.functional.cross_entropy(up, masks, task.weights, ignore_index=UNSCORED)
    assert whole.item() == pytest.approx(wanted.item(), rel=1e-5)
    weight = task.weights[masks[masks != UNSCORED]].sum()
    task.processes.mean = lambda value: weight / 2
    parts = [
        task.loss(scores[part], torch.zeros(1), type(batch)(batch.images[part], batch.masks[part], []), False)["loss"]
        for part in (slice(0, 2), slice(2, 6))
    ]
    assert sum(parts).item() / 2 == pytest.approx(whole.item(), rel=1e-5)


def test_mean_iou_by_hand() -> None:
    truth = np.uint8([[0, 0, 1, 1], [2, 2, UNSCORED, UNSCORED]])
    found = np.uint8([[0, 1, 1, 1], [2, 0, 0, 3]])
    result = mean_iou(counted(truth, found, 4) + counted(truth, truth, 4), ("a", "b", "c", "d"))
    assert result.per_class == {"a": 3 / 5, "b": 4 / 5, "c": 3 / 4, "d": -1.0}
    assert result.miou == pytest.approx((3 / 5 + 4 / 5 + 3 / 4) / 3) and result.pixel_accuracy == pytest.approx(10 / 12)


@pytest.mark.parametrize("centre", [False, True])
def test_classes_come_back_to_the_sources_pixels(centre: bool) -> None:
    """A map that knows where the picture's bright half is says so at the picture's size, wherever it was padded."""
    image = np.zeros((60, 100, 1), np.uint8)
    image[:, 50:] = 255
    shown, box = letterbox(image, Preprocess((128, 128), 1, centre=centre))
    bright = shown.astype(np.float32).reshape(32, 4, 32, 4).mean((1, 3))
    found = class_map(np.stack([np.full_like(bright, 128), bright], 2), box)
    assert found.shape == (60, 100) and (found[:, 53:] == 1).all() and (found[:, :47] == 0).all()
    assert class_map(np.zeros((8, 8, 3), np.float32), Letterbox.fit((30, 40), (32, 32))).shape == (30, 40)


def test_an_overlay_has_the_colours_of_classes() -> None:
    classes = np.uint8([[0, 1], [2, 1]])
    drawn = overlay(np.zeros((2, 2), np.uint8), classes, share=1.0)
    assert [tuple(drawn[i]) for i in ((0, 0), (0, 1), (1, 0))] == [class_colour(k) for k in range(3)]
    assert (overlay(np.full((2, 2, 3), 7, np.uint8), classes, share=0.0) == 7).all()


@pytest.mark.parametrize("target", ["ultra96v2-lpcv", "kv260"])
def test_all_of_a_segmenter_runs_on_the_accelerator(target: str) -> None:
    graph = untrained_graph(Recipe.model_validate({"task": "segmentation", "model": {"width": 0.125, "size": 96}}), 12)
    assert {verdict.where for verdict in check(graph, load_target(target))} == {"dpu"}
    assert graph.tensor(graph.outputs[0]).shape == (1, 24, 24, 12)


def test_the_whole_road(road: Path) -> None:
    report = Report.load(road / "report.json")
    assert report.measures == ("mIoU", "pixel accuracy") and report.status == "good"
    assert report.stages[0].ap > 0.7, "bright discs are easily found"
    assert abs(report.drop) < 0.03 and report.stages[0].ap50 > 0.8
    assert "mIoU, integer" in (road / "report.html").read_text() and len(report.images) == 8
    seen = (road / "train/training.html").read_text()
    assert 'scope="row">class 1<' in seen and seen.count("<img") == 8
    rows = read_log(road / "train/log.csv")
    assert rows[-1]["miou"] == pytest.approx(report.stages[0].ap, abs=0.02) and rows[-1]["loss"] < rows[0]["loss"]


def test_integers_of_the_road_are_scored_alike(road: Path, folder: Path, tmp_path: Path) -> None:
    """By the core, by the reference, and by the simulator from the program's own instruction words."""
    program, source = Program.load(road / "program.lwp"), str(folder / "val/images/0.png")
    simulator = open_backend("simulator", program, fidelity="words")
    maps = [Segmenter(program.graph, backend)(source) for backend in ("core", "reference", simulator)]
    assert maps[0].shape == (64, 48) and np.array_equal(maps[0], maps[1]) and np.array_equal(maps[0], maps[2])
    table = evaluate_file(road / "program.lwp", str(folder), "val.json", "simulator", 0)
    assert table["miou"] == Report.load(road / "report.json").stages[-1].ap and table["images"] == 8
    settings = recipe_of("segmentation", folder).quant
    result = quantize_file(QuantizeJob(road / "float.lwg", str(folder), tmp_path / "q.lwg", settings), Quiet)
    assert result["measure"] == "mIoU" and result["scored"] == 8
    assert result["accuracy"] == {stage.stage: stage.ap for stage in Report.load(road / "report.json").stages}


def test_a_file_says_that_it_is_a_segmenter(road: Path, folder: Path, tmp_path: Path) -> None:
    graph = load_graph(road / "float.lwg")
    head = meta.segmenter(graph)
    assert head == SegmentationHead("classes", 2, 9) and meta.classifier(graph) is None and meta.has_head(graph)
    onnx_writer.write(graph, tmp_path / "net.onnx")
    assert meta.segmenter(onnx_reader.read(tmp_path / "net.onnx")) == head
    table = evaluate_file(tmp_path / "net.onnx", str(folder), "val.json", "onnxruntime", 0)
    assert table["miou"] == pytest.approx(Report.load(road / "report.json").stages[0].ap, abs=1e-3)
    with pytest.raises(ToolError, match="no detection head") as error:
        meta.head(graph)
    assert error.value.why == "it is a segmenter"
    graph.meta["segmenter"]["num_classes"] = 5
    with pytest.raises(ToolError, match="description of itself is damaged"):
        meta.segmenter(graph)
    with pytest.raises(ToolError, match="no segmenter"):
        Segmenter(untrained_graph(Recipe(model={"width": 0.125, "size": 64}), 2))
