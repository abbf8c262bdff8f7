"""What goes to a board: it installs without the net, needs NumPy and OpenCV alone, and gives the same boxes."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import threading
import venv
import warnings
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import lowwatt
from lowwatt.backends import available, open_backend
from lowwatt.board import cli
from lowwatt.board.proof import check_golden
from lowwatt.compiler import Program, compile, xmodel_compiled
from lowwatt.compiler.segment import Segment
from lowwatt.errors import ToolError
from lowwatt.ir import store, xmodel
from lowwatt.meters.pmbus import PmbusMeter
from lowwatt.runtime import Engine
from lowwatt.targets import load_target
from lowwatt.verbs.bundle import Bundle, bundle_file
from lowwatt.verbs.bundle_modules import board_modules
from lowwatt.verbs.bundle_wheel import WHEEL
from small_detector import picture, small_detector
from vart_stand_in import install

pytest.importorskip("lowwatt._core")
BOARD = "ultra96v2-lpcv"
ALONE = Path(__file__).parent.parent / "board_only.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lamps.lwp, lamps.png, and the bundle of both as board.tar.gz, unpacked into lamps-board."""
    folder = tmp_path_factory.mktemp("made")
    compile(small_detector(), load_target(BOARD)).save(folder / "lamps.lwp")
    cv2.imwrite(str(folder / "lamps.png"), picture((1, 2), (2, 4)))
    bundle_file(Bundle(folder / "lamps.lwp", images=[folder / "lamps.png"], samples=0), folder / "board.tar.gz")
    with tarfile.open(folder / "board.tar.gz") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def board(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked bundle, as the working folder."""
    monkeypatch.chdir(made / "lamps-board")
    return made / "lamps-board"


def alone(source: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python with `source` as the only place of ours, with nothing but NumPy and OpenCV beside it."""
    installed = source == Path(lowwatt.__file__).parents[1]
    code = [sys.executable, str(ALONE), *([] if installed else ["--of-paths"]), *words]
    environment = {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    return subprocess.run(code, capture_output=True, text=True, env=environment, cwd=cwd)


def boxes_here(made: Path) -> list[Any]:
    found = Engine(Program.load(made / "lamps.lwp"), "core")(made / "lamps.png").detections
    return [found.xyxy.tolist(), found.score.tolist(), found.label.tolist()]


# -- what a board has --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["simulator", "reference", "core"])
def test_the_whole_package_runs_with_numpy_and_opencv_alone(made: Path, backend: str) -> None:
    source = Path(lowwatt.__file__).parents[1]
    done = alone(source, "boxes", str(made / "lamps.lwp"), str(made / "lamps.png"), backend)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == boxes_here(made) and len(boxes_here(made)[0]) == 2


def test_the_wheel_runs_with_numpy_and_opencv_alone(made: Path, tmp_path: Path) -> None:
    """And says that it is slow, for it has no compiled core."""
    zipfile.ZipFile(made / "lamps-board" / WHEEL).extractall(tmp_path)
    done = alone(tmp_path, "boxes", str(made / "lamps.lwp"), str(made / "lamps.png"), "simulator")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == boxes_here(made)
    assert done.stderr.count("RuntimeWarning: the compiled core is not built") == 1


@pytest.mark.parametrize("missing, package", [("cv2", "opencv-python-headless"), ("numpy", "numpy")])
def test_what_is_missing_is_named(made: Path, tmp_path: Path, missing: str, package: str) -> None:
    zipfile.ZipFile(made / "lamps-board" / WHEEL).extractall(tmp_path)
    done = alone(tmp_path, f"--without={missing}", "lowwatt.board.cli", "backends")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{missing} is not installed" in done.stderr and f"pip install {package}" in done.stderr


def test_a_clean_environment(made: Path, tmp_path: Path) -> None:
    """pip installs the wheel without the net where there is NumPy and OpenCV, and the command finds its program."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("there is no pip here")
    python = clean_environment(tmp_path)
    unpacked = made / "lamps-board"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", f"./{WHEEL}"]
    subprocess.run(install, check=True, cwd=unpacked, capture_output=True)
    command = python.parent / "lowwatt-board"
    checked = subprocess.run([command, "check"], cwd=unpacked, capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stdout.endswith("0 differ\n"), checked.stderr
    found = subprocess.run([command, "detect", "images", "-o", tmp_path / "out"], cwd=unpacked, capture_output=True)
    assert found.returncode == 0, found.stderr
    (row,) = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [one["xyxy"] for one in row["detections"]] == boxes_here(made)[0]
    assert (tmp_path / "out" / "000-lamps.jpg").is_file()


def clean_environment(folder: Path) -> Path:
    """Python of a new environment that sees NumPy and OpenCV of this one, and nothing else."""
    visible = folder / "visible"
    visible.mkdir()
    for place in {Path(np.__file__).parents[1], Path(cv2.__file__).parents[1]}:
        for path in (*place.glob("numpy*"), *place.glob("cv2*"), *place.glob("opencv*")):
            (visible / path.name).symlink_to(path)
    venv.create(folder / "clean", with_pip=False)
    site = next((folder / "clean").glob("lib/python3*/site-packages"))
    (site / "visible.pth").write_text(f"{visible}\n")
    return folder / "clean" / "bin" / "python"


def test_modules_that_need_more_are_left_out() -> None:
    found = board_modules(["lowwatt.verbs.detect"], Path(lowwatt.__file__).parent)
    assert "lowwatt.runtime.engine" in found and "lowwatt.loading" in found
    assert not {"lowwatt.capture", "lowwatt.recipe", "lowwatt.ir.xmodel", "lowwatt.models.checkpoint"} & found.keys()
    with pytest.raises(ValueError, match=r"recipe cannot run on a board"):
        board_modules(["lowwatt.recipe"], Path(lowwatt.__file__).parent)


# -- without the compiled core -----------------------------------------------------------------------------------


def test_the_simulator_without_the_core(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, wanted = Program.load(made / "lamps.lwp"), boxes_here(made)
    monkeypatch.delattr(lowwatt, "_core")
    monkeypatch.setitem(sys.modules, "lowwatt._core", None)
    status = {one.name: one for one in available()}
    assert not status["core"].usable and status["simulator"].usable and "slower" in status["simulator"].why
    with pytest.warns(RuntimeWarning, match="core is not built") as told:
        found = Engine(program, "simulator")(made / "lamps.png").detections
    assert [found.xyxy.tolist(), found.score.tolist(), found.label.tolist()] == wanted and told
    with pytest.warns(RuntimeWarning):
        assert "0 differ" in check_golden(program, open_backend("simulator", program))
    with pytest.raises(ToolError, match="core is not built"):
        open_backend("core", program)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_backend("reference", program)


# -- the archive -------------------------------------------------------------------------------------------------


def test_what_the_archive_holds(made: Path) -> None:
    with tarfile.open(made / "board.tar.gz") as archive:
        members = archive.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {m.mtime for m in members} == {0} and {m.uid for m in members} == {0}
    names = {m.name.removeprefix("lamps-board/") for m in members}
    assert {"program.lwp", "program.xmodel", WHEEL, "README.md", "SHA256SUMS", "LICENSE"} <= names
    assert {"core/csrc/module.cpp", "core/CMakeLists.txt", "core/pyproject.toml", "images/000-lamps.png"} <= names
    readme = (made / "lamps-board" / "README.md").read_text()
    assert "$" not in readme.replace("$PYNQ", "") and f"{load_target(BOARD).fingerprint:#x}" in readme
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=made / "lamps-board", capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_wheel_is_as_its_specification_says(made: Path) -> None:
    with zipfile.ZipFile(made / "lamps-board" / WHEEL) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    (record,) = [name for name in files if name.endswith("dist-info/RECORD")]
    rows = list(csv.reader(io.StringIO(files[record].decode())))
    assert sorted(row[0] for row in rows) == sorted(files)
    for name, digest, size in rows:
        if name != record:
            sum256 = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={sum256}", len(files[name]))


def test_the_same_input_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    bundle = Bundle(made / "lamps.lwp", images=[made / "lamps.png"], samples=2)
    for name in ("a.tar.gz", "b.tgz"):
        assert "digits" in bundle_file(bundle, tmp_path / name)["notes"][1]  # which find no lamp
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tgz").read_bytes()
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert sum("/images/sample-" in name for name in archive.getnames()) == 2


def test_two_at_once_and_one_that_fails(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes last has written a whole archive; a failure leaves the older one, and nothing beside it."""
    out, bundle = tmp_path / "board.tar.gz", Bundle(made / "lamps.lwp", images=[made / "lamps.png"], samples=0)
    threads = [threading.Thread(target=bundle_file, args=(bundle, out)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = (made / "board.tar.gz").read_bytes()
    assert out.read_bytes() == whole
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ToolError, match="cannot write"):
        bundle_file(bundle, out)
    assert [path.name for path in tmp_path.iterdir()] == ["board.tar.gz"] and out.read_bytes() == whole


# -- what cannot be bundled --------------------------------------------------------------------------------------


def refused(bundle: Bundle, out: Path) -> ToolError:
    with pytest.raises(ToolError) as error:
        bundle_file(bundle, out)
    assert not out.exists()
    return error.value


def test_only_programs_of_integers(tmp_path: Path) -> None:
    out = tmp_path / "board.tar.gz"
    store.save(small_detector(), tmp_path / "lamps.lwg")
    assert "lowwatt compile" in refused(Bundle(tmp_path / "lamps.lwg"), out).hint
    assert "no such file" in refused(Bundle(tmp_path / "none.lwp"), out).what
    (tmp_path / "bad.lwp").write_bytes(b"PK\x03\x04")
    assert "cannot read the archive" in refused(Bundle(tmp_path / "bad.lwp"), out).what
    compile(small_detector(quantized=False), BOARD).save(tmp_path / "float.lwp")
    assert "quantize" in refused(Bundle(tmp_path / "float.lwp"), out).hint
    compile(small_detector(), BOARD).save(tmp_path / "lamps.lwp")
    assert ".tar.gz" in refused(Bundle(tmp_path / "lamps.lwp"), tmp_path / "board.zip").hint
    assert "no image" in refused(Bundle(tmp_path / "lamps.lwp", images=[tmp_path / "lamps.lwp"]), out).what


def test_files_for_another_dpu_are_refused(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "board.tar.gz"
    xmodel.write(small_detector(), tmp_path / "plain.xmodel")
    assert "vai_c_xir" in refused(Bundle(made / "lamps.lwp", tmp_path / "plain.xmodel"), out).hint
    xmodel_compiled.write(compile(small_detector(), "kv260"), tmp_path / "other.xmodel")
    assert "another DPU" in refused(Bundle(made / "lamps.lwp", tmp_path / "other.xmodel"), out).what
    (tmp_path / "bad.xmodel").write_bytes(b"\xff" * 9)
    assert "no .xmodel" in refused(Bundle(made / "lamps.lwp", tmp_path / "bad.xmodel"), out).what
    assert "cannot read" in refused(Bundle(made / "lamps.lwp", tmp_path / "none.xmodel"), out).what
    mine = made / "lamps-board" / "program.xmodel"
    assert "given" in bundle_file(Bundle(made / "lamps.lwp", mine, samples=0), out)["notes"][0]


def test_a_program_that_leaves_the_dpu_nothing(made: Path, tmp_path: Path) -> None:
    program = Program.load(made / "lamps.lwp")
    host = [Segment("host", segment.graph) for segment in program.segments]
    dataclasses.replace(program, segments=host).save(tmp_path / "host.lwp")
    result = bundle_file(Bundle(tmp_path / "host.lwp", samples=0), tmp_path / "board.tar.gz")
    assert "nothing to do" in result["notes"][0] and "program.xmodel" not in result["members"]


# -- the board's command -----------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(words)
    return status, *capsys.readouterr()


@pytest.mark.parametrize("backend", ["vart", "pynq"])
def test_on_the_dpu(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    """On the stand-in for the vendor's runtime: the bundle's own .xmodel, with two runners."""
    install(monkeypatch, load_target(BOARD))
    (tmp_path / "dpu.bit").touch()
    on = ("--backend", backend, "--overlay", str(tmp_path / "dpu.bit"))
    status, out, error = run(capsys, "check", *on)
    assert status == 0 and out.endswith("0 differ\n"), error
    status, out, _ = run(capsys, "detect", "images", *on, "--runners", "2", "-o", str(tmp_path / "out"))
    assert status == 0 and "lamp" in out
    assert run(capsys, "bench", *on, "--seconds", "0.05")[0] == 0


def test_the_board_measures_its_energy(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two watts on one rail of a made-up sysfs; without one, an error that says so."""
    monkeypatch.setattr(PmbusMeter.__init__, "__defaults__", ((), tmp_path))
    assert run(capsys, "bench", "--seconds", "0.05", "--meter", "pmbus")[0] == 1
    chip = tmp_path / "class" / "hwmon" / "hwmon0"
    chip.mkdir(parents=True)
    for name, text in (("name", "ina260_u14"), ("power1_input", "2000000")):
        (chip / name).write_text(f"{text}\n")
    status, out, error = run(capsys, "bench", "--seconds", "0.1", "--meter", "pmbus")
    assert status == 0 and "mJ a frame" in out, error


def test_mistakes_on_the_board(
    board: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        status, _, error = run(capsys, *words)
        assert status == 1
        return error

    with pytest.raises(SystemExit, match="2"):
        cli.main(["detect", "images", "--conf", "7"])
    assert "vart backend is not usable here" in said("check", "--backend", "vart")
    assert 'did you mean "simulator"' in said("check", "--backend", "simulater")
    assert "cannot read the image" in run(capsys, "detect", "none.png", "-o", str(tmp_path / "out"))[1]
    monkeypatch.chdir(tmp_path)
    assert "--program" in said("check")
    for name in ("a.lwp", "b.lwp"):
        (tmp_path / name).write_bytes((made / "lamps.lwp").read_bytes())
    assert "several .lwp" in said("check")
    install(monkeypatch, load_target(BOARD))
    assert "no .xmodel" in said("check", "--backend", "vart", "--program", "a.lwp")


@pytest.mark.parametrize("name", ["program.lwp", "README.md", "core/CMakeLists.txt"])
def test_a_damaged_bundle_is_named(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with tarfile.open(made / "board.tar.gz") as archive:
        archive.extractall(tmp_path)
    path = tmp_path / "lamps-board" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, _, error = run(capsys, "check", "--program", str(tmp_path / "lamps-board" / "program.lwp"))
    assert status == 1 and "damaged" in error and path.name in error


def test_a_board_that_computes_otherwise(made: Path) -> None:
    program = Program.load(made / "lamps.lwp")

    class Broken:
        name = "broken"

        def __init__(self, change: Any) -> None:
            self._change = change

        def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
            return self._change(dict(open_backend("reference", program).run(inputs)))

    def off_by_one(found: dict[str, Any]) -> dict[str, Any]:
        found["box"].flat[3] ^= 1
        return found

    def absent(found: dict[str, Any]) -> dict[str, Any]:
        return {"cls": found["cls"]}

    for change, why in ((off_by_one, "1 of 96 elements, on broken"), (absent, "96 of 96 elements, on broken")):
        with pytest.raises(ToolError, match="other integers") as error:
            check_golden(program, Broken(change))  # type: ignore[arg-type]
        assert error.value.why == why
