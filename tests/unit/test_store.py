"""The file form of a graph: whole, deterministic, and closed against damage."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.files import read_archive, write_archive
from lowwatt.ir.graph import Graph
from lowwatt.ir.store import load, save
from lowwatt.ir.text import to_text
from lowwatt.types import QuantParams


def _graph() -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph("net", meta={"labels": ["cat"]})
    graph.add_input("image", (1, 8, 8, 1), QuantParams.power_of_two(0))
    weights = rng.integers(-128, 128, (4, 3, 3, 1)).astype(np.int8)
    graph.add_constant("a/w:0", weights, QuantParams.power_of_two(6))
    graph.add_constant("b", np.arange(4, dtype=np.int8), QuantParams.power_of_two(3))
    graph.add("conv2d", ["image", "a/w:0", "b"], "c", quant=QuantParams.power_of_two(2), pad=(1, 1, 1, 1))
    graph.outputs = ["c"]
    return graph


def test_round_trip_and_bytes(tmp_path: Path) -> None:
    graph = _graph()
    save(graph, tmp_path / "a.lwg")
    again = load(tmp_path / "a.lwg")
    assert to_text(again) == to_text(graph)
    for tensor in graph.constants():
        other = again.tensor(tensor.name).data
        assert other is not None and tensor.data is not None
        assert other.dtype == tensor.data.dtype
        np.testing.assert_array_equal(other, tensor.data)
    save(again, tmp_path / "b.lwg")
    assert (tmp_path / "a.lwg").read_bytes() == (tmp_path / "b.lwg").read_bytes()


def test_a_constant_of_another_shape_is_not_saved(tmp_path: Path) -> None:
    graph = _graph()
    graph.tensor("b").data = np.zeros(5, np.int8)
    with pytest.raises(ToolError, match="b"):
        save(graph, tmp_path / "a.lwg")
    assert not list(tmp_path.iterdir())


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "x.lwg").write_bytes(b"not an archive")
    write_archive(tmp_path / "y.lwg", {"other.txt": b""})
    for name, part in (("none.lwg", "no such file"), ("x.lwg", "cannot read"), ("y.lwg", "no graph")):
        with pytest.raises(ToolError, match=part):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("lowwatt-graph 1", "lowwatt-graph 7", "newer version"),
        ("const b: 4 ", "const b: 5 ", "damaged"),
        ("const b: 4 ", "const b: 99999999999x999999999 ", "damaged"),
        ("pad=[1, 1, 1, 1]", 'pad="wide"', "pad"),
        ("pad=[1, 1, 1, 1]", "group=null", "group"),
        ("1x8x8x4 int8", "1x8x8x5 int8", "shape"),
        ("conv2d(", "conv9d(", "unknown operator"),
        ("output c", "output d", "no such"),
        ("conv2d(image", "conv2d(pixels", "pixels"),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, old: str, new: str, part: str) -> None:
    save(_graph(), tmp_path / "a.lwg")
    members = read_archive(tmp_path / "a.lwg")
    text = members["graph.txt"].decode()
    assert old in text
    members["graph.txt"] = text.replace(old, new).encode()
    write_archive(tmp_path / "a.lwg", members)
    with pytest.raises(ToolError, match=part):
        load(tmp_path / "a.lwg")


def test_damage_never_ends_in_another_error(tmp_path: Path) -> None:
    """Flipped and missing bytes, in the archive and in its text: a graph or a ToolError."""
    save(_graph(), tmp_path / "a.lwg")
    whole, members = (tmp_path / "a.lwg").read_bytes(), read_archive(tmp_path / "a.lwg")
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        _load_bytes(tmp_path, bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]))
        text = bytearray(members["graph.txt"])
        text[rng.randrange(len(text))] = rng.randrange(256)
        write_archive(tmp_path / "c.lwg", {**members, "graph.txt": bytes(text)})
        _load_bytes(tmp_path, (tmp_path / "c.lwg").read_bytes())


def _load_bytes(folder: Path, data: bytes) -> None:
    (folder / "d.lwg").write_bytes(data)
    with contextlib.suppress(ToolError):
        load(folder / "d.lwg")
