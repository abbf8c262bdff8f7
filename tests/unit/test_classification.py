"""Classification: reading, crops, batches, networks for a DPU, and the road from training to the score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.backends import open_backend  # noqa: E402
from lowwatt.compiler import Program  # noqa: E402
from lowwatt.compiler.rules import check  # noqa: E402
from lowwatt.data.crop import area_crop, jittered, mirrored, warp  # noqa: E402
from lowwatt.data.folder import open_classes, read_classes  # noqa: E402
from lowwatt.data.items import ClassLoader, cut_into  # noqa: E402
from lowwatt.data.sample import make_class_sample  # noqa: E402
from lowwatt.data.splits import open_splits  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.evaluate.report import Report, summary_table, write_html  # noqa: E402
from lowwatt.letterbox import letterbox, read_image  # noqa: E402
from lowwatt.models.checkpoint import load  # noqa: E402
from lowwatt.models.networks import NETWORKS, build_network, preprocess_of  # noqa: E402
from lowwatt.models.start import load_weights  # noqa: E402
from lowwatt.recipe import DataSettings, Recipe  # noqa: E402
from lowwatt.runtime.classifier import Classifier  # noqa: E402
from lowwatt.targets import load_target  # noqa: E402
from lowwatt.training import train  # noqa: E402
from lowwatt.training.classification import ClassificationTask  # noqa: E402
from lowwatt.training.processes import Processes  # noqa: E402
from lowwatt.verbs.compile import untrained_graph  # noqa: E402
from lowwatt.verbs.evaluate import evaluate_file  # noqa: E402
from lowwatt.verbs.produce import Road  # noqa: E402
from lowwatt.verbs.quantize import QuantizeJob, quantize_file  # noqa: E402
from lowwatt.verbs.yardstick import yardstick_for  # noqa: E402
from small_tasks import CLASSES, Quiet, class_folders, recipe_of  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return class_folders(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def road(tmp_path_factory, folder: Path) -> Path:
    """Folder of a whole production run."""
    out = tmp_path_factory.mktemp("road")
    Road(recipe_of("classification", folder), out, listener=lambda line: None, progress=Quiet).produce()
    return out


def test_both_forms_of_labels(folder: Path, tmp_path: Path) -> None:
    train, val = open_classes(DataSettings(root=str(folder)))
    assert train.labels == val.labels == CLASSES and (len(train), len(val)) == (36, 18)
    assert [image.label for image in val.images] == [0] * 6 + [1] * 6 + [2] * 6
    two = open_classes(DataSettings(root=str(folder), classes=["stripes", "cross"]), ("val",))[0]
    assert two.labels == ("stripes", "cross") and sorted({i.label for i in two.images}) == [0, 1]
    assert all((image.label == 1) == ("cross" in str(image.path)) for image in two.images)
    for split, rows in (("train", "a.png 0\nb.png 2\n"), ("val", "a.png 1\n")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "labels.txt").write_text(rows)
    train, val = open_classes(DataSettings(root=str(tmp_path)))
    assert train.labels == val.labels == ("0", "1", "2") and val.images[0].label == 1
    assert open_classes(DataSettings(root=str(tmp_path), classes=["x", "y", "z"]))[0].labels == ("x", "y", "z")


def test_the_embedded_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe = Recipe.model_validate(
        {"task": "classification", "data": {"sample_train": 60, "sample_val": 20, "sample_size": 48}}
    )
    train, val = open_splits(recipe)
    assert train.labels == val.labels == tuple("0123456789") and (len(train), len(val)) == (60, 20)
    scenes = [read_image(image.path, 1) for image in (*train.images, *val.images)]
    assert {scene.shape for scene in scenes} == {(48, 48, 1)} and len({scene.tobytes() for scene in scenes}) == 80
    assert all(image.path.parent.name == str(image.label) for image in train.images)
    (first, *_) = tmp_path.rglob("digits-*")
    again = make_class_sample(tmp_path / "again", 60, 20, 48)
    assert all(path.read_bytes() == (again / path.relative_to(first)).read_bytes() for path in first.rglob("*.png"))


def test_labels_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no class disk") as error:
        open_classes(DataSettings(root=str(folder), classes=["disk", "cross"]))
    assert error.value.hint == 'did you mean "disc"?'
    with pytest.raises(ToolError, match="network knows no class cross"):
        read_classes(folder / "val").numbered(("disc", "stripes"))
    with pytest.raises(ToolError, match="cannot read the labels"):
        open_classes(DataSettings(root=str(tmp_path)))
    taught = recipe_of("classification", folder)
    taught.distill.teacher = "teacher.safetensors"
    with pytest.raises(ToolError, match="no distillation for classification"):
        train(taught, tmp_path / "taught", progress=Quiet())
    with pytest.raises(ToolError, match="yolox is no network for classification") as error:
        build_network(Recipe.model_validate({"task": "classification", "model": {"arch": "yolox"}}), 2)
    assert "resnet, mobilenet" in error.value.hint


def test_a_crop_is_a_part_of_the_image() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    whole = np.array([[32 / 60, 0, 0], [0, 32 / 40, 0], [0, 0, 1.0]])
    shares = []
    for _ in range(200):
        matrix = area_crop(40, 60, 32, rng, (0.3, 0.6))
        left, top, _ = np.linalg.inv(matrix) @ (0, 0, 1)
        right, bottom, _ = np.linalg.inv(matrix) @ (32, 32, 1)
        assert -1e-6 <= left < right <= 60 + 1e-6 and -1e-6 <= top < bottom <= 40 + 1e-6
        shares.append((right - left) * (bottom - top) / 2400)
    assert min(shares) > 0.25 and max(shares) < 0.6 + 1e-6
    np.testing.assert_array_equal(warp(image[:32, :32], np.eye(3), 32), image[:32, :32])
    np.testing.assert_array_equal(warp(image[:32, :32], mirrored(np.eye(3), 32), 32), image[:32, :32][:, ::-1])
    assert abs(warp(image, whole, 32).mean() - image.mean()) < 2
    assert jittered(image, rng, 0.0) is image and (jittered(image, rng, 0.3) != image).any()


def test_cutmix_and_mixup_blend_targets_as_pixels(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        mixed, share = cut_into(np.zeros((20, 30, 1), np.uint8), np.ones((20, 30, 1), np.uint8), rng)
        assert share == pytest.approx(1 - mixed.mean())
    recipe = recipe_of("classification", folder)
    recipe.classification.cutmix = recipe.classification.mixup = 0.5
    loader = ClassLoader(open_splits(recipe)[0], recipe, preprocess_of(recipe))
    targets = np.concatenate([batch.targets for batch in loader.epoch(0, True)])
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    assert (targets.max(1) < 0.99).any()
    plain = np.concatenate([batch.targets for batch in loader.epoch(0, False)])
    assert set(np.unique(plain)) == {0, 1}


def test_batches_depend_on_seed_and_epoch_alone(folder: Path) -> None:
    recipe = recipe_of("classification", folder)
    data = open_splits(recipe)[0]

    def batches(workers: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> list:
        settings = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": workers})})
        return list(ClassLoader(data, settings, preprocess_of(recipe), rank, world).epoch(epoch, True, start))

    first = batches(0, 3)
    assert len(first) == 6 and first[0].images.shape == (6, 64, 64, 1)
    for other in (batches(2, 3), [*first[:4], *batches(0, 3, 4)]):
        assert all(np.array_equal(a.images, b.images) for a, b in zip(first, other, strict=True))
    halves = [batches(0, 3, rank=rank, world=2) for rank in (0, 1)]
    assert sorted(halves[0][0].files + halves[1][0].files) == sorted(first[0].files)
    assert not np.array_equal(first[0].images, batches(0, 4)[0].images)


def test_plain_epochs_show_what_the_test_shows(folder: Path) -> None:
    recipe = recipe_of("classification", folder, flip=0.0)
    data, preprocess = open_splits(recipe)[0], preprocess_of(recipe)
    loader = ClassLoader(data, recipe, preprocess)
    image, _ = loader.plain(5, np.random.default_rng(0))
    np.testing.assert_array_equal(image, letterbox(read_image(data.images[5].path, 1), preprocess)[0])


@pytest.mark.parametrize("target", ["ultra96v2-lpcv", "kv260"])
@pytest.mark.parametrize("arch", NETWORKS["classification"])
def test_all_of_a_classifier_runs_on_the_accelerator(arch: str, target: str) -> None:
    recipe = Recipe.model_validate(
        {"task": "classification", "model": {"arch": arch, "width": 0.25, "size": 96, "channels": 3}}
    )
    graph = untrained_graph(recipe, 10)
    assert {verdict.where for verdict in check(graph, load_target(target))} == {"dpu"}


def test_the_loss_of_two_processes_is_that_of_one(folder: Path) -> None:
    recipe = recipe_of("classification", folder)
    processes = Processes(recipe.train)
    task = ClassificationTask(recipe, *open_splits(recipe), processes)
    (batch, *_) = task.loader.epoch(0, True)
    logits = torch.randn(6, 3, 1, 1)
    whole = task.loss(logits, torch.zeros(1), batch, False)["loss"]
    soft = torch.from_numpy(batch.targets)
    wanted = torch.nn.functional.cross_entropy(logits.flatten(1), soft, label_smoothing=0.1)
    assert whole.item() == pytest.approx(wanted.item(), rel=1e-5)
    processes.mean = lambda value: torch.tensor(3.0)  # images of a process, averaged over both
    parts = [
        task.loss(logits[part], torch.zeros(1), type(batch)(batch.images[part], batch.targets[part], []), False)["loss"]
        for part in (slice(0, 2), slice(2, 6))
    ]
    assert sum(parts).item() / 2 == pytest.approx(whole.item(), rel=1e-5)


class StopAt(Quiet):
    """As good as kill -9 after some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def update(self, done: int, info=None) -> None:
        if done == self.step and "row" not in info:
            raise MemoryError


def test_a_run_goes_on_where_it_was_cut(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of("classification", folder, epochs=2, save_minutes=0)
    train(recipe, tmp_path / "whole", progress=Quiet())
    with pytest.raises(MemoryError):
        train(recipe, tmp_path / "parts", progress=StopAt(9))
    train(recipe, tmp_path / "parts", resume=True, progress=Quiet())
    whole, parts = (load(tmp_path / name / "model.safetensors").module.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_backbone_starts_a_detector(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of("classification", folder, epochs=0)
    recipe.model.arch = "cspdarknet"
    train(recipe, tmp_path, progress=Quiet())
    detector = build_network(Recipe(model=recipe.model.model_copy(update={"arch": ""})), 4)
    left = load_weights(detector, tmp_path / "model.safetensors").fresh
    assert left and not [name for name in left if name.startswith("backbone.")]


def test_the_whole_road(road: Path, folder: Path) -> None:
    report = Report.load(road / "report.json")
    assert report.measures == ("top-1", "top-5") and [s.stage for s in report.stages] == [
        "FP32",
        "fake-quant",
        "integer",
    ]
    assert report.stages[0].ap > 0.6, "three figures that differ plainly"
    assert report.drop <= 0.12 and report.stages[0].ap50 == 1.0
    assert report.headline.startswith("INT8 top-1") and "LPCV score" not in {figure.name for figure in report.figures}
    assert len(report.images) == 8 and report.training[-1].ap == pytest.approx(report.stages[0].ap, abs=0.06)
    write_html(report, road / "again.html", against=report)
    page = (road / "again.html").read_text()
    assert "top-1, integer" in page and "top-5" in page and ">AP" not in page
    assert "top-1 integer" in "".join(str(cell) for cell in summary_table(report).columns[0].cells)
    model = load(road / "model.safetensors")
    seen = (road / "train/training.html").read_text()
    assert all(f'scope="row">{name}<' in seen for name in CLASSES) and seen.count("<img") == 8
    assert model.labels == CLASSES and model.recipe.task == "classification" and model.info["top1"] > 0.6


def test_integers_of_the_road_are_scored_alike(road: Path, folder: Path) -> None:
    """By the core, by the reference, and by the simulator from the program's own instruction words."""
    program = Program.load(road / "program.lwp")
    images = [str(image.path) for image in read_classes(folder / "val").images[::6]]
    simulator = open_backend("simulator", program, fidelity="words")
    scores = [list(Classifier(program.graph, name).stream(images)) for name in ("core", "reference", simulator)]
    assert np.array_equal(scores[0], scores[1]) and np.array_equal(scores[0], scores[2])
    table = evaluate_file(road / "program.lwp", str(folder), "val.json", "simulator", 0)
    assert table["top1"] == Report.load(road / "report.json").stages[-1].ap
    whole = evaluate_file(road / "model.safetensors", str(folder), "val.json", "auto", 0)
    assert whole["images"] == 18 and whole["top1"] == Report.load(road / "report.json").stages[0].ap
    trained = evaluate_file(road / "model.safetensors", str(folder), "train.json", "auto", 0)
    assert trained["images"] == 36, "another split, by the name of its folder"


def test_quantize_calibrates_on_train_and_scores_val(road: Path, folder: Path, tmp_path: Path) -> None:
    job = QuantizeJob(
        road / "model.safetensors", str(folder), tmp_path / "q.lwg", recipe_of("classification", folder).quant
    )
    result = quantize_file(job, Quiet)
    assert result["measure"] == "top-1" and result["scored"] == 18 and result["images"] == 12
    assert result["accuracy"] == {s.stage: s.ap for s in Report.load(road / "report.json").stages}
    from lowwatt.loading import graph_of

    yardstick = yardstick_for(graph_of(load(road / "model.safetensors")), str(folder / "val"))
    assert yardstick.scored == 18 - 5, "a folder without splits keeps every fourth image for calibration"


def test_verbs_of_detectors_refuse(road: Path, tmp_path: Path, folder: Path) -> None:
    from lowwatt.verbs.detect import detect_images

    with pytest.raises(ToolError, match="no detection head") as error:
        list(detect_images([str(folder / "val/disc/0.png")], road / "quantized.lwg", tmp_path, "auto"))
    assert error.value.why == "it is a classifier"


def test_a_network_that_learnt_nothing_is_told(folder: Path, tmp_path: Path) -> None:
    road = Road(recipe_of("classification", folder, epochs=0), tmp_path, listener=lambda line: None, progress=Quiet)
    report = road.produce()
    assert report.status == "warning" and "most frequent class (33.3% of the images)" in report.headline
    assert json.loads((tmp_path / "report.json").read_text())["measures"] == ["top-1", "top-5"]
