"""Files that are damaged or made to do harm: whatever they hold, the answer is a ToolError, and soon."""

from __future__ import annotations

import contextlib
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowwatt
from lowwatt import loading
from lowwatt.backends import open_backend
from lowwatt.compiler.program_file import seal
from lowwatt.errors import ToolError
from lowwatt.ir import onnx_qdq, onnx_writer, store, text, xmodel
from lowwatt.ir.graph import Graph
from lowwatt.recipe import load_recipe
from lowwatt.targets import load_target
from lowwatt.types import QuantParams
from lowwatt.verbs.run import run_file
from small_detector import small_detector

ODD = ["0", "-1", "7", "99999999999", "1e999", "NaN", "null", '"x"', "[]", "{}", "true", "1.5", "[1, 2]"]
_TOKEN = re.compile(r'-?\b\d+(?:\.\d+)?\b|"[^"]*"|\[[^\[\]]*\]|\b[a-z_]\w+')


def seeds(count: int) -> Iterator[random.Random]:
    """Generators of random numbers, always the same ones."""
    return (random.Random(seed) for seed in range(count))


def use(loaded: Any) -> None:
    """Everything that a user would do next; a ToolError is an answer, anything else a failure."""
    graph = loaded if isinstance(loaded, Graph) else loaded.graph
    backend = "core" if graph.is_quantized else "onnxruntime"
    deeds: list[Callable[[], object]] = [
        lambda: lowwatt.compile(graph, "kv260"),
        lambda: lowwatt.Engine(graph, backend)(np.zeros((9, 9), np.uint8)),
        lambda: text.to_text(graph),
    ]
    if not isinstance(loaded, Graph):
        deeds += [lambda: json.dumps(loaded.to_json()), lambda: (loaded.fps, loaded.macs), loaded.verify]
    for deed in deeds:
        with contextlib.suppress(ToolError):
            deed()


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, members: dict[str, bytes]) -> None:
    """As somebody would who knows of the digest of a program."""
    members = seal(members) if path.suffix == ".lwp" else members
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small file of each kind, by suffix."""
    folder = tmp_path_factory.mktemp("files")
    graph, floating = small_detector(), small_detector(False)
    store.save(graph, folder / "a.lwg")
    lowwatt.compile(graph, "kv260").save(folder / "a.lwp")
    xmodel.write(graph, folder / "a.xmodel")
    onnx_writer.write(floating, folder / "a.onnx")
    return {path.suffix: path for path in folder.iterdir()}


TEXTS = [
    (".lwg", "graph.txt"),
    (".lwp", "program.json"),
    (".lwp", "graph/graph.txt"),
    (".lwp", "segments/000/segment.json"),
]


@pytest.mark.parametrize(("suffix", "member"), TEXTS)
def test_words_and_numbers_exchanged(files: dict[str, Path], tmp_path: Path, suffix: str, member: str) -> None:
    """The file still parses, but a number is a list, a name is absent, a count is huge."""
    members = members_of(files[suffix])
    content = members[member].decode()
    hits = list(_TOKEN.finditer(content))
    for generator in seeds(120):
        hit = generator.choice(hits)
        word = generator.choice(ODD) if generator.random() < 0.6 else generator.choice(hits)[0]
        members[member] = (content[: hit.start()] + word + content[hit.end() :]).encode()
        pack(tmp_path / f"f{suffix}", members)
        with contextlib.suppress(ToolError):
            use(lowwatt.load(tmp_path / f"f{suffix}"))


@pytest.mark.parametrize("suffix", [".lwg", ".lwp", ".xmodel", ".onnx"])
def test_bits_flipped_and_ends_cut(files: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    for generator in seeds(60):
        content = bytearray(files[suffix].read_bytes())
        for _ in range(generator.choice((1, 4, 30))):
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        if generator.random() < 0.3:
            del content[generator.randrange(len(content)) :]
        (tmp_path / f"f{suffix}").write_bytes(content)
        with contextlib.suppress(ToolError):
            use(lowwatt.load(tmp_path / f"f{suffix}"))


def test_a_program_without_its_fingerprint(files: dict[str, Path], tmp_path: Path) -> None:
    members = members_of(files[".lwp"])
    description = json.loads(members["program.json"])
    del description["fingerprint"]
    members["program.json"] = json.dumps(description).encode()
    pack(tmp_path / "f.lwp", members)
    with pytest.raises(ToolError, match="another machine"):
        lowwatt.load(tmp_path / "f.lwp")


def test_an_output_may_be_a_constant() -> None:
    graph = small_detector()
    graph.outputs.append("cls_w")
    zeros = {"images": np.zeros((1, 32, 48, 1), np.int8)}
    found = [lowwatt.Engine(graph, name).backends[0].run(zeros)["cls_w"] for name in ("core", "reference")]
    assert all(np.array_equal(value, graph.tensor("cls_w").data) for value in found)


WRONG = [("activation", 3), ("alpha", float("nan")), ("alpha", "x"), ("hsigmoid_in", 1.5), ("group", "2")]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=str)
def test_an_attribute_of_another_kind_is_refused(key: str, value: Any) -> None:
    graph = Graph()
    graph.add_input("x", (1, 4, 4, 1), QuantParams.power_of_two(0))
    graph.add_constant("w", np.zeros((1, 1, 1, 1), np.int8), QuantParams.power_of_two(0))
    with pytest.raises(ToolError, match=f"cannot have this {key}"):
        graph.add("conv2d", ["x", "w"], "y", quant=QuantParams.power_of_two(0), **{key: value})


DAMAGED = {
    "preprocess": {"size": [99999999999, 1], "channels": 1},
    "head": {"strides": [8, 16], "outputs": [["cls", "box", "obj"]], "num_classes": 2},
    "labels": 1.5,
}


@pytest.mark.parametrize("key", DAMAGED)
def test_a_damaged_description_is_told(key: str) -> None:
    graph = small_detector()
    graph.meta[key] = DAMAGED[key]
    with pytest.raises(ToolError, match="description of itself is damaged"):
        lowwatt.Engine(graph)


DEEP = "[" * 20_000
YAML = [
    "train: " + DEEP,
    "a: " + "9" * 5_000,
    "train: {epochs: 1}\ntrain: {batch: 1}",
    "\0",
    "!!python/object:os.system x",
    "3",
]


@pytest.mark.parametrize("content", YAML, ids=["deep", "digits", "twice", "nul", "object", "number"])
def test_yaml_of_recipes_and_targets(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(ToolError, match="cannot read the recipe"):
        load_recipe(path)
    with pytest.raises(ToolError, match="cannot read the target"):
        load_target(path)


@pytest.mark.parametrize(
    "text", ["train.epochs=" + "9" * 5_000, "train.epochs=" + DEEP, "model.width=1e9", "train.lr=.nan"]
)
def test_overrides_that_do_harm(text: str) -> None:
    with pytest.raises(ToolError):
        load_recipe(None, [text])


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(99999999999999999999999,)", "(-1,)", "(1, 32, 48, 1)"])
def test_arrays_that_promise_more_than_they_hold(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    store.save(small_detector(), tmp_path / "a.lwg")
    with pytest.raises(ToolError, match="cannot read the array"):
        run_file(tmp_path / "a.lwg", [str(tmp_path / "x.npy")], "core", tmp_path)


def test_an_onnx_file_says_the_shape_it_takes(files: dict[str, Path]) -> None:
    backend = open_backend("onnxruntime", files[".onnx"])
    maps = np.zeros((1, 32, 48, 1), np.float64)
    with pytest.raises(ToolError, match="wrong shape"):
        backend.run({"images": maps})
    assert set(backend.run({"images": maps.transpose(0, 3, 1, 2)})) == {"cls", "box", "obj"}


def onnx_file(path: Path, nodes: list[Any], constants: dict[str, Any]) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y], kept)), str(path))
    return path


def test_an_onnx_loop_over_constants_is_not_run(tmp_path: Path) -> None:
    """A file of 300 bytes could keep the reader busy for years."""
    from onnx import helper

    info = [helper.make_tensor_value_info(n, t, []) for n, t in (("i", 7), ("go", 9), ("v", 1), ("more", 9), ("w", 1))]
    body = [helper.make_node("Identity", ["go"], ["more"]), helper.make_node("Add", ["v", "v"], ["w"])]
    graph = helper.make_graph(body, "body", info[:3], info[3:])
    loop = helper.make_node("Loop", ["count", "first", "start"], ["a"], body=graph)
    branch = helper.make_graph([loop], "branch", [], [helper.make_tensor_value_info("a", 1, None)])
    chosen = helper.make_node("If", ["first"], ["a"], then_branch=branch, else_branch=branch)
    constants = {"count": np.int64(10**12), "first": np.array(True), "start": np.float32(0)}
    for node in (loop, chosen):
        path = onnx_file(tmp_path / "a.onnx", [node, helper.make_node("Add", ["a", "x"], ["y"])], constants)
        with pytest.raises(ToolError, match="unsupported ONNX operator"):
            lowwatt.load(path)


def test_a_quantized_onnx_is_called_that(tmp_path: Path) -> None:
    onnx_qdq.write(small_detector(), tmp_path / "q.onnx")
    with pytest.raises(ToolError, match="quantized already"):
        lowwatt.load(tmp_path / "q.onnx")


@pytest.mark.parametrize("suffix", loading.KINDS)
def test_a_file_of_another_kind_under_a_known_suffix(files: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    for kind, path in files.items():
        if kind != suffix:
            (tmp_path / f"f{suffix}").write_bytes(path.read_bytes())
            with pytest.raises(ToolError):
                lowwatt.load(tmp_path / f"f{suffix}")
    (tmp_path / f"f{suffix}").write_bytes(b"")
    with pytest.raises(ToolError):
        lowwatt.load(tmp_path / f"f{suffix}")


def test_what_a_reader_did_not_foresee_is_still_told(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(path: Path) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setitem(loading._READERS, ".lwg", stumble)
    with pytest.raises(ToolError, match="cannot read the file"):
        lowwatt.load(files[".lwg"])
