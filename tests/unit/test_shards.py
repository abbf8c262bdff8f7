"""Data sets in tars: the same images and boxes as before, wherever the shards lie."""

from __future__ import annotations

import contextlib
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lowwatt.cli import app
from lowwatt.data import open_data
from lowwatt.data.check import check
from lowwatt.data.sample import make_sample
from lowwatt.data.shards import write_shards
from lowwatt.errors import ToolError
from lowwatt.letterbox import read_image
from lowwatt.members import member_path, read_bytes, size_of
from lowwatt.recipe import DataSettings


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample") / "set", 12, 5, 96)


def _shard(sample: Path, out: Path, *more: str) -> None:
    command = ["data", "shard", str(sample), str(out), "--megabytes", "0.02", *more]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output


def _equal(one, two) -> None:
    assert (one.labels, one.category_ids, len(one)) == (two.labels, two.category_ids, len(two))
    for a, b, p, q in zip(one.images, two.images, one.boxes, two.boxes, strict=True):
        assert (a.id, a.width, a.height) == (b.id, b.width, b.height)
        assert np.array_equal(read_image(a.path, 1), read_image(b.path, 1))
        assert all(np.array_equal(getattr(p, k), getattr(q, k)) for k in ("xywh", "label", "crowd", "area"))


def test_shards_hold_the_same_data_set(sample: Path, tmp_path: Path) -> None:
    _shard(sample, tmp_path)
    tars = sorted(path.name for path in tmp_path.glob("train-*.tar"))
    assert len(tars) > 2
    for one, two in zip(*(open_data(DataSettings(root=str(root))) for root in (sample, tmp_path)), strict=True):
        _equal(one, two)
        assert check(one) == check(two)
    with tarfile.open(tmp_path / tars[0]) as archive:  # any tool may unpack them
        first = archive.getmembers()[0]
        assert archive.extractfile(first).read() == read_bytes(
            open_data(DataSettings(root=str(sample)))[0].images[0].path
        )


def test_the_same_set_gives_the_same_bytes_and_shards_can_be_sharded(sample: Path, tmp_path: Path) -> None:
    _shard(sample, tmp_path / "a")
    _shard(sample, tmp_path / "b")
    _shard(tmp_path / "a", tmp_path / "c")
    contents = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "abc"]
    assert contents[0] == contents[1] == contents[2]


def test_shards_may_lie_on_several_disks(sample: Path, tmp_path: Path) -> None:
    _shard(sample, tmp_path / "a")
    (tmp_path / "b").mkdir()
    tars = sorted((tmp_path / "a").glob("train-*.tar"))
    for tar in tars[1:]:
        tar.rename(tmp_path / "b" / tar.name)
    settings = DataSettings(root=str(tmp_path / "a"), roots=[str(tmp_path / "b")])
    _equal(open_data(settings, ("train",))[0], open_data(DataSettings(root=str(sample)), ("train",))[0])
    with pytest.raises(ToolError, match=f"no shard '{tars[1].name}'"):
        open_data(DataSettings(root=str(tmp_path / "a")))


def test_images_that_cannot_be_read_are_left_out(sample: Path, tmp_path: Path) -> None:
    data = open_data(DataSettings(root=str(sample)), ("train",))[0].first(3)
    gone = data.images[1].path.rename(tmp_path / "gone")
    missing = write_shards(data, tmp_path / "out", "train", 1)
    gone.rename(data.images[1].path)
    assert [(one.kind, one.where) for one in missing] == [("missing image", data.images[1].path.name)]
    found = open_data(DataSettings(root=str(tmp_path / "out")), ("train",))[0]
    assert [image.id for image in found.images] == [data.images[0].id, data.images[2].id]
    assert len(found.boxes[1]) == len(data.boxes[2])


def test_long_names_do_not_shift_the_members(tmp_path: Path) -> None:
    (tmp_path / "in/images").mkdir(parents=True)
    names = ["a" * 180 + ".bin", "ü b*?.bin", "1+2@c.bin"]
    for name in names:
        (tmp_path / "in/images" / name).write_bytes(name.encode() * 9)
    images = [{"id": k, "file_name": name, "width": 1, "height": 1} for k, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "in/train.json").write_text(json.dumps(content))
    data = open_data(DataSettings(root=str(tmp_path / "in")), ("train",))[0]
    write_shards(data, tmp_path / "out", "train", 1)
    found = open_data(DataSettings(root=str(tmp_path / "out")), ("train",))[0]
    assert [read_bytes(image.path) for image in found.images] == [name.encode() * 9 for name in names]
    assert [size_of(image.path) for image in found.images] == [len(name.encode()) * 9 for name in names]


def test_a_member_beyond_its_tar_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 100)
    with pytest.raises(ToolError, match="cannot read the image") as error:
        read_image(member_path(tmp_path / "a.tar", 90, 20, "a.jpg"), 1)
    assert "ends before byte 110" in error.value.why
    with pytest.raises(ToolError, match="cannot read the image"):
        read_image(tmp_path / "b.tar" / "0+20@a.jpg", 1)
    with pytest.raises(ToolError, match="cannot read the image"):
        read_image("a\0b.jpg", 1)


def test_training_and_evaluation_read_shards(sample: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from lowwatt.recipe import load_recipe
    from lowwatt.training.loop import train

    torch.set_num_threads(1)
    _shard(sample, tmp_path / "shards")
    small = ["model.width=0.125", "model.size=64", "train.epochs=1", "train.batch=4", "train.plain_epochs=0",
             "train.tensorboard=false", "train.device=cpu"]  # fmt: skip
    weights = []
    for root in (sample, tmp_path / "shards"):
        model = train(load_recipe(None, [*small, f"data.root={root}"]), tmp_path / root.name)
        weights.append(torch.cat([p.flatten() for p in model.module.parameters()]))
    assert torch.equal(*weights)


def test_damaged_shards_end_in_findings_or_a_clear_error(sample: Path, tmp_path: Path) -> None:
    _shard(sample, tmp_path)
    paths, rng, survived = sorted(tmp_path.iterdir()), random.Random(0), 0
    for _ in range(120):
        path = rng.choice(paths)
        whole = path.read_bytes()
        damaged = bytearray(whole[: rng.choice((len(whole), rng.randrange(1, len(whole))))])
        for _ in range(rng.randrange(6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ToolError):
            for data in open_data(DataSettings(root=str(tmp_path))):
                check(data)
            survived += 1
        path.write_bytes(whole)
    assert 20 < survived < 120
