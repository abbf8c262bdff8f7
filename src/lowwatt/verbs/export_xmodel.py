"""export: the vendor's files, xmodel for its compiler and compiled xmodel for its runtime."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_text
from lowwatt.ir.graph import Graph
from lowwatt.verbs.export_source import Inputs, Source, need_quantized


def xmodel(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """The vendor's xmodel, with the arch.json of the machine and the command that compiles it."""
    from lowwatt.ir import xmodel as files
    from lowwatt.targets import arch_json, load_target

    graph, machine = source.graph, source.machine
    need_quantized(graph, "xmodel")
    target = machine if not isinstance(machine, str) else load_target(machine)
    files.write(graph, out)
    arch = out.with_suffix(".arch.json")
    write_text(arch, arch_json.text(target.fingerprint) + "\n")
    command = ["vai_c_xir", "-x", str(out), "-a", str(arch), "-o", str(out.parent), "-n", f"{out.stem}_{target.name}"]
    return [_read_back(graph, files.read(out), samples), f"compile it for {target.name} with: {shlex.join(command)}"]


def _read_back(graph: Graph, again: Graph, samples: Sequence[Inputs]) -> str:
    """Run the file that was written and the graph on the integer reference; ToolError where an integer differs."""
    from lowwatt.ir.interpreter import run

    elements = 0
    for sample in samples:
        before, after = run(graph, sample), run(again, _renamed(graph, again, sample))
        for (name, left), right in zip(before.items(), after.values(), strict=True):
            elements += left.size
            if not np.array_equal(left, right):
                raise ToolError("the xmodel differs from the graph", where=name, hint="please report this graph")
    return f"read back and run on the integer reference: {elements} output elements, 0 differ"


def _renamed(graph: Graph, again: Graph, sample: Inputs) -> Inputs:
    """A sample by the names that the inputs have in the file."""
    return {new: sample[old] for old, new in zip(graph.inputs, again.inputs, strict=True)}


def xmodel_compiled(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """What the vendor's runtime loads, proved by running the file's own words."""
    from lowwatt.compiler import compile
    from lowwatt.compiler import xmodel_compiled as compiled
    from lowwatt.ir import xmodel as files
    from lowwatt.verbs.compiled_proof import prove_code

    graph = source.graph
    need_quantized(graph, "xmodel-compiled")
    program = source.program or compile(graph, source.machine)
    if all(segment.side == "host" for segment in program.segments):
        raise ToolError(
            "the program leaves nothing to the accelerator", where=graph.name, hint="lowwatt check says why"
        )
    compiled.write(program, out)
    again = files.read(out)
    return [
        "EXPERIMENTAL: no board has run such a file of lowwatt; the vendor's own way is --format xmodel and vai_c_xir",
        _read_back(graph, again, samples),
        *(prove_code(out, program, again, _renamed(graph, again, samples[0])) if samples else []),
    ]
