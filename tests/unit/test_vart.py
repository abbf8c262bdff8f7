"""The board's backends on a stand-in for the vendor's runtime: whose file, whose DPU, which order, how many threads."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lowwatt.backends import open_backend
from lowwatt.compiler import Program, compile, xmodel_compiled
from lowwatt.errors import ToolError
from lowwatt.runtime import Engine
from lowwatt.targets import load_target
from lowwatt.types import QuantParams
from small_detector import picture, small_detector
from vart_stand_in import DpuOverlay, Tensor, install

BOARD = "ultra96v2-lpcv"


@pytest.fixture(autouse=True)
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    pytest.importorskip("lowwatt._core")
    install(monkeypatch, load_target(BOARD))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dpu.bit").touch()
    yield


@pytest.fixture
def program() -> Program:
    return compile(small_detector(), load_target(BOARD))


def test_an_engine_on_two_runners(program: Program) -> None:
    """In order, equal to the core's boxes, and no thread is left; the stand-in refuses two threads in one runner."""
    images = [picture((n % 4, n % 6)) for n in range(17)]
    before = threading.active_count()
    engine = Engine(program, [open_backend("vart", program) for _ in range(2)])
    found = [result.detections for result in engine.stream(images)]
    wanted = [result.detections for result in Engine(program, "core").stream(images)]
    assert len(found) == 17 and threading.active_count() == before
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours.xyxy, theirs.xyxy)
        np.testing.assert_array_equal(ours.score, theirs.score)


def test_a_file_that_was_compiled_before(program: Program, tmp_path: Path) -> None:
    xmodel_compiled.write(program, tmp_path / "net.xmodel")
    images = np.random.default_rng(0).integers(-128, 128, (2, 32, 48, 1)).astype(np.int8)
    images.flags.writeable = False
    found = open_backend("vart", program, xmodel="net.xmodel").run({"images": images})
    for name, value in open_backend("reference", program).run({"images": images}).items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(ToolError, match="no such file"):
        open_backend("vart", program, xmodel="absent.xmodel")


def test_a_file_of_another_network_or_for_another_dpu(program: Program, tmp_path: Path) -> None:
    other = small_detector()
    other.tensors["cls"].quant = QuantParams.power_of_two(3)
    xmodel_compiled.write(compile(other, load_target(BOARD)), tmp_path / "other.xmodel")
    with pytest.raises(ToolError, match="not the program's") as error:
        open_backend("vart", program, xmodel="other.xmodel")
    assert error.value.where == "cls" and "fix point 3" in error.value.why
    xmodel_compiled.write(compile(small_detector(), load_target("zcu104")), tmp_path / "b4096.xmodel")
    with pytest.raises(ToolError, match=r"\.xmodel was compiled for another DPU"):
        open_backend("vart", program, xmodel="b4096.xmodel")


def test_other_counts_of_subgraphs(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    import xir

    children = xir.Graph.toposort_child_subgraph
    for times, message in ((0, "fewer DPU subgraphs"), (2, "more DPU subgraphs")):
        monkeypatch.setattr(xir.Graph, "toposort_child_subgraph", lambda self, n=times: children(self) * n)
        with pytest.raises(ToolError, match=message):
            open_backend("vart", program)


def test_the_boards_own_word(program: Program, tmp_path: Path) -> None:
    """xdputil's fingerprint, where there is an xdputil that gives one."""
    query = tmp_path / "xdputil"
    for answer, refused in (
        ('{"kernels": [{"fingerprint": "0x101000056010407"}]}', True),
        (f'{{"kernels": [{{"fingerprint": "{program.target.fingerprint:#x}"}}]}}', False),
        ("an older version's table", False),
    ):
        query.write_text(f"#!/bin/sh\necho '{answer}'\n")
        query.chmod(query.stat().st_mode | stat.S_IEXEC)
        if refused:
            with pytest.raises(ToolError, match="another DPU") as error:
                open_backend("vart", program)
            assert "0x101000056010407" in error.value.why and "lowwatt compile" in error.value.hint
        else:
            open_backend("vart", program)


def test_the_overlay_is_loaded_once(program: Program) -> None:
    """Loading it again would stop whoever works on the DPU."""
    backends = [open_backend("pynq", program) for _ in range(3)]
    assert DpuOverlay.downloads == 1
    open_backend("pynq", program, overlay=DpuOverlay("dpu.bit", download=False))
    assert DpuOverlay.downloads == 1 and len(backends) == 3
    with pytest.raises(ToolError, match="overlay cannot be loaded"):
        open_backend("pynq", program, overlay="absent.bit")


def test_a_dpu_that_does_not_finish(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    import vart

    monkeypatch.setattr(vart.Runner, "wait", lambda self, job: 3)
    with pytest.raises(ToolError, match="did not finish") as error:
        open_backend("vart", program).run({"images": np.zeros((1, 32, 48, 1), np.int8)})
    assert "3" in error.value.why


def test_tensors_are_told_apart_by_shape_where_names_differ(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's compiler renames them; shape and fix point decide, and what is ambiguous is refused."""
    import vart

    def renamed(self: object, places: dict[str, object]) -> list[Tensor]:
        return [
            Tensor(f"sub_{i}_fix", (1, *p.shape), self._points[n]) for i, (n, p) in enumerate(sorted(places.items()))
        ]  # type: ignore[attr-defined]

    monkeypatch.setattr(vart.Runner, "_tensors", renamed)
    images = np.random.default_rng(0).integers(-128, 128, (1, 32, 48, 1)).astype(np.int8)
    found = open_backend("vart", program).run({"images": images})
    for name, value in open_backend("reference", program).run({"images": images}).items():
        np.testing.assert_array_equal(found[name], value)


def test_graphs_are_refused() -> None:
    for name in ("vart", "pynq"):
        with pytest.raises(ToolError, match=f"{name} backend runs programs"):
            open_backend(name, small_detector())
