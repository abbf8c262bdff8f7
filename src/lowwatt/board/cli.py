"""lowwatt-board: detect, check and bench on a board. Plain argparse, since a board has little installed."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt import process
from lowwatt.errors import ToolError
from lowwatt.process import INTERRUPTED

if TYPE_CHECKING:
    from lowwatt.runtime import Engine

_NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Exit codes: 0 done, 1 a stated failure, 2 wrong usage, 130 interrupted."""
    process.begin()
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    given = _parser().parse_args(arguments)
    try:
        _need_packages()
        done: int = given.verb(given)
        return done
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # the disk is full, a folder may not be read
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _need_packages() -> None:
    """ToolError for what the wheel does not ask of pip: OpenCV goes by several names, and boards bring their own."""
    for module, package in _NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            hint = f"pip install {package}, or install your system's package of it"
            raise ToolError(f"{module} is not installed", why=str(error), hint=hint) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lowwatt-board", description="Run a compiled detector on this board.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    detect = _verb(verbs, "detect", _detect, "draw boxes on images, and list them")
    detect.add_argument("images", nargs="+", metavar="IMAGE|FOLDER|VIDEO|CAMERA", help="what to see")
    detect.add_argument("-o", "--out", type=Path, default=Path("detections"), help="folder to write (%(default)s)")
    detect.add_argument("--conf", type=_share, default=0.25, help="least score of a box (%(default)s)")
    check = _verb(verbs, "check", _check, "compare the board's integers with those in the program, bit for bit")
    bench = _verb(verbs, "bench", _bench, "measure frames a second, and each stage of the work")
    bench.add_argument("images", nargs="*", metavar="IMAGE|FOLDER|VIDEO", help="what to run on (noise)")
    bench.add_argument("--seconds", type=float, default=5.0, help="how long (%(default)s)")
    bench.add_argument("--meter", choices=("pmbus",), help="also measure energy, by the board's own sensors")
    for verb in (detect, bench):
        verb.add_argument("--runners", type=int, default=1, help="jobs that wait for the accelerator (%(default)s)")
    _verb(verbs, "backends", _backends, "list what can run the program here")
    check.set_defaults(runners=1)
    return parser


def _share(text: str) -> float:
    """A number from 0 to 1."""
    found = float(text)
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError("a number from 0 to 1 is expected")
    return found


def _verb(verbs: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=about)
    verb.set_defaults(verb=run)
    if run is not _backends:
        verb.add_argument("-b", "--backend", default="simulator", help="as `backends` lists them (%(default)s)")
        verb.add_argument("-p", "--program", type=Path, help="program (the one .lwp here)")
        verb.add_argument("--xmodel", type=Path, help="compiled for the DPU (the one .xmodel beside the program)")
        verb.add_argument("--overlay", help="bit file for pynq (pynq_dpu's own)")
    return verb


# -- verbs -------------------------------------------------------------------------------------------------------


def _detect(given: argparse.Namespace) -> int:
    import json

    from lowwatt.files import write_text
    from lowwatt.runtime.results import listed

    rows: list[dict[str, Any]] = []
    with closing(_engine(given, conf=given.conf).stream(given.images, save=given.out)) as results:
        for result in results:
            found = listed(result.detections)
            rows.append({"source": result.source, "file": result.file, "detections": found, "error": result.error})
            names = ", ".join(f"{one['label']} {one['score']:.2f}" for one in found) or "nothing found"
            print(f"{result.source} → {result.file}: {names}" if not result.error else result.error, flush=True)
    write_text(given.out / "detections.json", json.dumps(rows, indent=1) + "\n")
    return int(any(row["error"] for row in rows))


def _check(given: argparse.Namespace) -> int:
    from lowwatt.board.proof import check_golden, check_sums
    from lowwatt.board.unpacked import find_program, open_backends
    from lowwatt.compiler.program import Program

    path = find_program(given.program)
    for line in check_sums(path.parent):
        print(line)
    program = Program.load(path)
    print(f"program for {program.target.name}, fingerprint {program.target.fingerprint:#x}: {path}")
    print(check_golden(program, open_backends(given, program, path)[0]))
    return 0


def _bench(given: argparse.Namespace) -> int:
    from lowwatt.meters import open_meter

    meter = None if given.meter is None else open_meter(given.meter)
    print(_engine(given).bench(given.images or None, seconds=given.seconds, meter=meter))
    return 0


def _engine(given: argparse.Namespace, **settings: float) -> Engine:
    from lowwatt.board.unpacked import find_program, open_backends
    from lowwatt.compiler.program import Program
    from lowwatt.runtime import Engine

    path = find_program(given.program)
    program = Program.load(path)
    return Engine(program, open_backends(given, program, path), **settings)


def _backends(given: argparse.Namespace) -> int:
    from lowwatt.backends import available

    for one in available():
        how = "" if one.usable else f" ({one.how_to_install})"
        print(f"{one.name:<10} {'yes' if one.usable else 'no ':<4}{one.why}{how}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
