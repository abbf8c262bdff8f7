"""bundle: one archive with all that a board needs to run a program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import lowwatt
from lowwatt import backends
from lowwatt.board.proof import SUMS, sums_of
from lowwatt.compiler.program import Program
from lowwatt.errors import ToolError
from lowwatt.files import tarred, write_bytes
from lowwatt.ir import meta
from lowwatt.runtime.sources import IMAGE_SUFFIXES
from lowwatt.verbs.bundle_modules import board_modules
from lowwatt.verbs.bundle_wheel import VERSION, WHEEL, make_wheel
from lowwatt.verbs.export_source import Source, need_quantized, random_inputs

ENTRIES = (
    "lowwatt.board.cli",
    "lowwatt.backends.core",
    "lowwatt.backends.reference",
    "lowwatt.backends.simulator",
    "lowwatt.backends.vart",
    "lowwatt.meters.pmbus",
)
"""From where the modules of a board are found."""

WITHOUT = ("lowwatt.loading", "lowwatt.ir.heads")
"""Files of other kinds and other people's networks: a board opens a program, which says what it is."""

_PACKAGE = Path(lowwatt.__file__).parent
_CORE_BUILD = f"""\
[build-system]
requires = ["scikit-build-core>=0.10", "nanobind>=2.2"]
build-backend = "scikit_build_core.build"

[project]
name = "lowwatt-core"
version = "{lowwatt.__version__}"
description = "The compiled core of lowwatt, for the package that came in the same bundle."
requires-python = ">=3.10"

[tool.scikit-build]
wheel.packages = []
cmake.build-type = "Release"
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What goes in: the program's file, one for the DPU where the user has it, pictures, and how many samples."""

    file: Path
    xmodel: Path | None = None
    images: Sequence[Path] = ()
    samples: int = 2


def bundle_file(bundle: Bundle, out: Path) -> dict[str, Any]:
    """Write the archive to `out`, atomically; {file, bytes, members: {name: bytes}, notes}. Equal input, equal bytes.

    ToolError for what is no program, a float one, and an .xmodel that is not compiled, or for another DPU.
    """
    if not out.name.endswith((".tar.gz", ".tgz")):
        raise ToolError("a bundle is a .tar.gz", where=str(out), hint=f"--out {out.with_suffix('.tar.gz')}")
    program = _program(bundle.file)
    xmodel, note = _xmodel(bundle, program)
    members = {
        "program.lwp": bundle.file.read_bytes(),
        WHEEL: make_wheel(board_modules(ENTRIES, _PACKAGE, WITHOUT), source_file("LICENSE").read_bytes()),
        "LICENSE": source_file("LICENSE").read_bytes(),
        **({} if xmodel is None else {"program.xmodel": xmodel}),
        **dict(_core()),
        **dict(_pictures(bundle, program)),
    }
    members["README.md"] = _readme(program, note, members).encode()
    members[SUMS] = sums_of(members).encode()
    folder = f"{bundle.file.stem}-board"
    write_bytes(out, tarred({f"{folder}/{name}": data for name, data in members.items()}))
    sizes = {name: len(data) for name, data in sorted(members.items())}
    notes = [note, *_strangers(bundle, program)]
    return {"file": str(out), "bytes": out.stat().st_size, "folder": folder, "members": sizes, "notes": notes}


def _program(file: Path) -> Program:
    if file.suffix != ".lwp":
        hint = f"compile it first: lowwatt compile {file} --target MACHINE --out {file.with_suffix('.lwp')}"
        raise ToolError("only a program can be bundled", where=str(file), hint=hint)
    program = Program.load(file)
    need_quantized(program.graph, "bundle")
    return program


# -- the file for the DPU ------------------------------------------------------------------------------------------


def _xmodel(bundle: Bundle, program: Program) -> tuple[bytes | None, str]:
    """The compiled .xmodel, None for a program that leaves the DPU nothing, and a line on where it comes from."""
    if bundle.xmodel is not None:
        _check_compiled(bundle.xmodel, program)
        return bundle.xmodel.read_bytes(), "The .xmodel is the one that the bundle was given."
    if all(segment.side == "host" for segment in program.segments):
        return None, "There is no .xmodel: the program leaves the DPU nothing to do (`lowwatt check` says why)."
    from lowwatt.verbs.export_xmodel import xmodel_compiled

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.xmodel"
        xmodel_compiled(Source(program.graph, program.target, program), path, random_inputs(program.graph)[:1])
        note = (
            "The .xmodel holds lowwatt's own instruction words. This is EXPERIMENTAL: they were proved on the "
            "simulator, but no board has run such a file. The vendor's own way is `lowwatt export --format xmodel`, "
            "`vai_c_xir`, and `lowwatt bundle --xmodel FILE`."
        )
        return path.read_bytes(), note


def _check_compiled(path: Path, program: Program) -> None:
    """ToolError where a user's .xmodel cannot run on the program's machine."""
    from lowwatt.compiler.xmodel_parts import fingerprints

    found = fingerprints(path)
    if not found:
        why = "none of its subgraphs is for a DPU"
        raise ToolError("the .xmodel is not compiled", where=str(path), why=why, hint="run vai_c_xir on it first")
    if found != {program.target.fingerprint}:
        why = f"its fingerprint is {min(found):#x}, the program's {program.target.fingerprint:#x}"
        raise ToolError("the .xmodel was compiled for another DPU", where=str(path), why=why)


# -- the other members ---------------------------------------------------------------------------------------------


def source_file(name: str) -> Path:
    """A file or folder of the source tree: beside an installed package, or in the checkout that is run."""
    for folder in (_PACKAGE / "core_source", _PACKAGE.parents[1]):
        if (folder / name).exists():
            return folder / name
    raise ToolError("this installation lacks a part of its source", where=name, hint="install lowwatt again")


def _core() -> Iterator[tuple[str, bytes]]:
    """The C++ core as a package of its own, which puts one file into ours."""
    yield "core/pyproject.toml", _CORE_BUILD.encode()
    yield "core/CMakeLists.txt", source_file("CMakeLists.txt").read_bytes()
    for path in sorted(source_file("csrc").glob("*.?pp")):
        yield f"core/csrc/{path.name}", path.read_bytes()


def _pictures(bundle: Bundle, program: Program) -> Iterator[tuple[str, bytes]]:
    """Pictures to try: the given ones, and some of the embedded sample set."""
    for number, path in enumerate(bundle.images):
        if not path.is_file() or path.suffix.lower() not in IMAGE_SUFFIXES:
            raise ToolError(
                "this is no image", where=str(path), hint=f"known suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        yield f"images/{number:03d}-{path.name}", path.read_bytes()
    if bundle.samples:
        from lowwatt.data.sample import make_sample

        with tempfile.TemporaryDirectory() as folder:
            make_sample(folder, 1, bundle.samples, max(meta.preprocess(program.graph).size))
            for path in sorted(Path(folder).glob("images/*"))[1:]:  # the first is that of train
                yield f"images/sample-{path.name}", path.read_bytes()


def _strangers(bundle: Bundle, program: Program) -> Iterator[str]:
    """A line where the samples hold nothing that the network knows."""
    from lowwatt.data.sample import NAMES

    if bundle.samples and not set(NAMES) & set(meta.labels(program.graph)):
        yield "The sample pictures are digits, which this network does not know: take your own along with --image."


def _readme(program: Program, note: str, members: Mapping[str, bytes]) -> str:
    text = resources.files("lowwatt.board").joinpath("README.md").read_text(encoding="utf-8")
    labels = meta.labels(program.graph)
    return Template(text).substitute(
        network=program.graph.name,
        classes=", ".join(labels[:12]) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "") or "not named",
        target=program.target.name,
        machine=program.target.description,
        fingerprint=f"{program.target.fingerprint:#x}",
        milliseconds=f"{program.latency_ms:.1f}",
        wheel=WHEEL,
        version=VERSION,
        note=note,
        backends=", ".join(name for name in backends.backend_names() if f"lowwatt.backends.{name}" in ENTRIES),
        pictures=str(sum(name.startswith("images/") for name in members)),
    )
