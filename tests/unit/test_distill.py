"""Teachers from files, what they say of a batch, and how far a student is from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.data.coco import read_coco  # noqa: E402
from lowwatt.data.sample import make_sample  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.models.yolox import STRIDES  # noqa: E402
from lowwatt.recipe import DistillSettings, Recipe  # noqa: E402
from lowwatt.training import train  # noqa: E402
from lowwatt.training.distill import Distiller, attention, channelwise, pearson  # noqa: E402
from lowwatt.training.log import Silent, read_log  # noqa: E402
from lowwatt.training.loss import flatten  # noqa: E402
from lowwatt.training.processes import Processes  # noqa: E402
from lowwatt.training.teacher import Remembered, Teacher  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_sample(tmp_path_factory.mktemp("sample") / "set", 16, 4, 64)
    return tuple(read_coco(folder / f"{split}.json", folder / "images") for split in ("train", "val"))


def recipe_of(width: float = 0.125, channels: int = 1, **settings) -> Recipe:
    base = {"epochs": 2, "batch": 4, "plain_epochs": 1, "warmup_epochs": 0, "eval_every": 0, "threads": 1, "seed": 3}
    model = {"width": width, "size": 64, "channels": channels}
    return Recipe.model_validate({"model": model, "train": {**base, "device": "cpu", **settings}})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    train(recipe_of(width=0.1875, epochs=1), out, data=data, progress=Silent())
    return out / "model.safetensors"


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, side, side)).astype(np.float32)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize("loss", [attention, channelwise, pearson])
def test_a_student_like_its_teacher_loses_nothing(loss) -> None:
    x = torch.randn(2, 6, 4, 4)
    assert float(loss(x, x)) == pytest.approx(0, abs=1e-6)
    assert float(loss(x, torch.randn(2, 6, 4, 4))) > 0.01


def test_attention_is_the_published_formula() -> None:
    student, teacher = torch.rand(2, 3, 4, 4), torch.rand(2, 5, 4, 4)
    maps = [(x**2).mean(1).reshape(2, -1) for x in (student, teacher)]
    maps = [m / m.norm(dim=1, keepdim=True) for m in maps]
    assert float(attention(student, teacher)) == pytest.approx(float(((maps[0] - maps[1]) ** 2).sum(1).mean()))


def test_the_teacher_says_what_its_network_says(teacher: Path, data) -> None:
    from lowwatt.models.checkpoint import load

    model = load(teacher)
    seen: list[torch.Tensor] = []
    model.module.neck.register_forward_hook(lambda module, inputs, outputs: seen.extend(outputs))
    with torch.no_grad():
        raw = flatten(model.module(images(side=96)), (96, 96), STRIDES)
    lesson = Teacher(str(teacher), data[1].labels[::-1], STRIDES, CPU)(images(side=96))
    torch.testing.assert_close(lesson.obj, raw.obj.sigmoid(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(lesson.cls, raw.cls.sigmoid().flip(-1), atol=1e-4, rtol=1e-3)  # classes by name
    torch.testing.assert_close(lesson.box, raw.box, atol=1e-3, rtol=1e-3)
    for own, watched in zip(lesson.features, seen, strict=True):
        torch.testing.assert_close(own, watched, atol=1e-2, rtol=1e-3)


def test_lessons_are_remembered_by_pixels(teacher: Path, data) -> None:
    calls: list[int] = []
    asked = Teacher(str(teacher), data[1].labels, STRIDES, CPU)

    def counting(batch: torch.Tensor):
        calls.append(len(batch))
        return asked(batch)

    remembered = Remembered(counting, 1 << 24)
    batch = images(3)
    first = remembered(batch[:2])
    again = remembered(batch[[2, 1, 0]])
    assert calls == [2, 1]
    torch.testing.assert_close(again.obj[[2, 1]], first.obj, atol=1e-3, rtol=1e-3)
    forgetful = Remembered(counting, 0)
    forgetful(batch), forgetful(batch)
    assert calls == [2, 1, 3, 3]


def test_a_wider_teacher_is_compared_by_attention_only(teacher: Path, data) -> None:
    for method in ("cwd", "pkd"):
        recipe = recipe_of()
        recipe.distill = DistillSettings(teacher=str(teacher), method=method)
        with pytest.raises(ToolError, match="channel by channel") as error:
            train(recipe, teacher.parent / method, data=data, progress=Silent())
        assert "distill.method=at" in (error.value.hint or "")


def test_classes_that_the_teacher_does_not_know_are_named(teacher: Path) -> None:
    with pytest.raises(ToolError, match="does not know all classes") as error:
        Teacher(str(teacher), ["giraffe"], STRIDES, CPU)
    assert "giraffe" in (error.value.why or "")


def test_training_comes_nearer_to_the_teacher_and_resumes(teacher: Path, data, tmp_path: Path) -> None:
    recipe = recipe_of(epochs=6, lr=0.05)
    recipe.distill = DistillSettings(teacher=str(teacher))
    model = train(recipe, tmp_path / "a", data=data, progress=Silent())
    rows = read_log(tmp_path / "a/log.csv")
    assert rows[-1]["neck"] < rows[0]["neck"] and rows[-1]["logits"] < rows[0]["logits"]
    assert not any("distill" in name for name in model.module.state_dict())

    class Stop(Silent):
        def update(self, done: int, info) -> None:
            if done == 9 and "row" not in info:
                raise MemoryError

    recipe.train.save_minutes = 0
    with pytest.raises(MemoryError):
        train(recipe, tmp_path / "b", data=data, progress=Stop())
    again = train(recipe, tmp_path / "b", data=data, resume=True, progress=Silent())
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


def test_logits_pull_towards_the_teacher(teacher: Path, data) -> None:
    from lowwatt.models.checkpoint import load

    recipe = recipe_of()
    distiller = Distiller(
        DistillSettings(teacher=str(teacher), neck=0), data[1].labels, STRIDES, Processes(recipe.train)
    )
    module = load(teacher).module
    batch = images()
    same = distiller.losses(batch, (), flatten(module(batch), (64, 64), STRIDES), plain=False)["logits"]
    for parameter in module.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    other = distiller.losses(batch, (), flatten(module(batch), (64, 64), STRIDES), plain=False)["logits"]
    assert float(same.detach()) < 0.5 * float(other.detach())
