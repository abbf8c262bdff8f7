"""Training on a GPU: what it draws, replays and reads late is what a processor does at once."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

from lowwatt.data.coco import read_coco  # noqa: E402
from lowwatt.data.loader import TrainLoader  # noqa: E402
from lowwatt.data.sample import make_sample  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.models.yolox import STRIDES, build_model, preprocess_of  # noqa: E402
from lowwatt.recipe import ModelSettings, Recipe  # noqa: E402
from lowwatt.training import train  # noqa: E402
from lowwatt.training.draw import Upload  # noqa: E402
from lowwatt.training.graphs import Graphs  # noqa: E402
from lowwatt.training.log import Silent, read_log  # noqa: E402
from lowwatt.training.loss import detection_loss, flatten, pad_targets  # noqa: E402
from lowwatt.training.processes import Processes  # noqa: E402

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_sample(tmp_path_factory.mktemp("sample") / "set", 64, 8, 96)
    return tuple(read_coco(folder / f"{split}.json", folder / "images") for split in ("train", "val"))


def recipe_of(width: float = 0.125, **settings) -> Recipe:
    base = {"epochs": 4, "batch": 8, "plain_epochs": 1, "warmup_epochs": 1, "eval_every": 2, "seed": 3, "workers": 2}
    return Recipe.model_validate({"model": {"width": width, "size": 96}, "train": {**base, **settings}})


def loader_of(data, **settings) -> TrainLoader:
    recipe = recipe_of(**settings)
    return TrainLoader(data[0], preprocess_of(recipe.model), recipe.train)


@pytest.mark.parametrize("augment", [True, False])
def test_what_a_gpu_draws(data, augment: bool) -> None:
    here, there = loader_of(data), loader_of(data)
    there.send(Upload(GPU, Lock()))
    for own, other in zip(here.epoch(0, augment), there.epoch(0, augment), strict=True):
        apart = np.abs(own.images.astype(int) - other.images.cpu().numpy().astype(int))
        assert (apart > 1).mean() < 0.04 and apart.mean() < 1  # edges: tests/unit/test_draw.py
        assert all((a == b).all() for a, b in zip(own.boxes, other.boxes, strict=True))


@pytest.mark.parametrize("settings", [{"mixup": 0.5}, {"hsv": (0.0, 0.3, 0.3)}])
def test_what_is_blended_or_coloured_is_only_sent(data, settings) -> None:
    here, there = loader_of(data, **settings), loader_of(data, **settings)
    there.send(Upload(GPU, Lock()))
    for own, other in zip(here.epoch(0, True), there.epoch(0, True), strict=True):
        assert (torch.from_numpy(own.images) == other.images.cpu()).all()


def test_a_replayed_step_is_the_step(data) -> None:
    batches = list(loader_of(data).epoch(0, True))
    torch.manual_seed(0)
    module = build_model(ModelSettings(width=0.125, size=96), 10).to(GPU, memory_format=torch.channels_last).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    processes = Processes(recipe_of(precision="fp32").train)
    graphs = Graphs(module, processes.autocast, processes.alone)
    found = []
    for call in (module, graphs):
        module.load_state_dict(before)
        rows = []
        for batch in batches:
            images = torch.from_numpy(batch.images).to(GPU).permute(0, 3, 1, 2).float()
            module.zero_grad()
            predictions = flatten(call(images), (96, 96), STRIDES)
            loss = detection_loss(predictions, pad_targets(batch.boxes, batch.labels, GPU), l1=True).total
            loss.backward()
            rows.append([float(loss.detach()), *(float(p.grad.norm()) for p in module.parameters())])
            del loss, predictions  # what a pass leaves behind must not be there when another is captured
        found.append((np.array(rows), {name: value.clone() for name, value in module.state_dict().items()}))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=0.02, atol=1e-3)
    for name, value in found[0][1].items():  # statistics of batch norms: capturing left no trace in them
        torch.testing.assert_close(value, found[1][1][name], rtol=1e-3, atol=1e-3)


def test_the_loss_is_that_of_a_processor() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    outputs = [torch.randn(4, c, 96 // s, 96 // s) * 2 - 2 for s in STRIDES for c in (3, 4, 1)]
    corner = rng.uniform(0, 60, (4, 5, 2))
    boxes = list(np.concatenate((corner, corner + rng.uniform(8, 36, (4, 5, 2))), 2).astype(np.float32))
    labels = list(rng.integers(0, 3, (4, 5)))
    boxes[1], labels[1] = boxes[1][:0], labels[1][:0]
    for cls in ("bce", "qfl"):
        losses = []
        for device in (CPU, GPU):
            predictions = flatten([out.to(device) for out in outputs], (96, 96), STRIDES)
            losses.append(detection_loss(predictions, pad_targets(boxes, labels, device), True, cls=cls))
        assert losses[0].positives == losses[1].positives.cpu() > 0
        for name in ("total", "iou", "cls", "obj", "l1"):
            torch.testing.assert_close(getattr(losses[0], name), getattr(losses[1], name).cpu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"precision": "fp16"}, {"cuda_graphs": False, "clip": 5.0}, {"multiscale": (0.67, 1.34)}]
)
def test_a_run_learns_and_can_be_resumed(data, tmp_path: Path, settings) -> None:
    train(recipe_of(**settings), tmp_path, data=data, progress=Silent())
    rows = read_log(tmp_path / "log.csv")
    assert rows[2]["loss"] < rows[0]["loss"] and len(rows) == 4

    class Stop(Silent):
        def update(self, done: int, info) -> None:
            if done == 19 and "row" not in info:
                raise MemoryError

    again = tmp_path / "again"
    with pytest.raises(MemoryError):
        train(recipe_of(save_minutes=0, **settings), again, data=data, progress=Stop())
    train(recipe_of(save_minutes=0, **settings), again, data=data, resume=True, progress=Silent())
    assert read_log(again / "log.csv")[-1]["loss"] == pytest.approx(rows[-1]["loss"], rel=0.1)


def test_a_teacher_teaches(data, tmp_path: Path) -> None:
    train(recipe_of(0.1875, epochs=1), tmp_path / "teacher", data=data, progress=Silent())
    recipe = recipe_of(epochs=6, lr=0.05)
    recipe.distill.teacher = str(tmp_path / "teacher/model.safetensors")
    train(recipe, tmp_path / "student", data=data, progress=Silent())
    rows = read_log(tmp_path / "student/log.csv")
    assert rows[-1]["neck"] < rows[0]["neck"] and rows[-1]["logits"] < rows[0]["logits"]


def test_a_loss_that_is_no_number_stops_before_it_is_kept(data, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="the loss became") as error:
        train(recipe_of(lr=1e12, precision="fp32", optimizer="sgd"), tmp_path, data=data, progress=Silent())
    assert ".png" in (error.value.why or "") and not (tmp_path / "last.ckpt").exists()


def test_the_end_of_memory_says_what_fits(data, tmp_path: Path) -> None:
    free = torch.cuda.mem_get_info()[0]
    held = torch.empty(free - (700 << 20), dtype=torch.uint8, device=GPU)
    with pytest.raises(ToolError, match="out of memory with 64 images") as error:
        train(recipe_of(1.0, batch=64, multiscale=(6, 6)), tmp_path, data=data, progress=Silent())
    assert "train.batch" in (error.value.hint or ""), held.shape
