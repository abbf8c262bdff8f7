"""A network whose middle falls to the host: throughput beside what its busiest side can do.

A detector of three segments, accelerator, host, accelerator, on simulated machines that use no processor: the
accelerator needs 5 ms before and 4 ms after the host's 6 ms. One after the other that is 15 ms a frame; with every
segment a stage of its own the accelerator, which has 9 ms of work a frame, is what limits. Real JPEGs are read and
scaled, and real boxes made, around it. Two accelerators then halve that bound to 4.5 ms, and the host's 6 ms limits.
Beside it, in turn, a plain loop over the busiest side alone, whose sleeps last a little longer than asked for.

    python benchmarks/runtime_mixed.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping

import numpy as np
from runtime_accelerator import CONTEST, Accelerator, images, outputs
from runtime_accelerator import detector as single
from verdict import conclude

from lowwatt.backends.base import quants_of
from lowwatt.backends.mixed import MixedBackend
from lowwatt.compiler.segment import Segment
from lowwatt.ir.graph import Graph
from lowwatt.runtime import Engine
from lowwatt.types import Array

BAR, FRAMES, ROUNDS = 0.97, 200, 7
FIRST, HOST, LAST = 0.005, 0.006, 0.004


class Program:
    """The contest's shapes behind two elementwise operators: what runs where is stated, nothing is compiled."""

    def __init__(self) -> None:
        self.graph = single()
        quant = self.graph.tensor("image").quant
        self.graph.add("relu", ["image"], "first", quant=quant)
        self.graph.add("relu", ["first"], "middle", quant=quant)
        self.graph.nodes = self.graph.nodes[-2:] + self.graph.nodes[:-2]
        for node in self.graph.nodes[2:]:
            node.inputs[0] = "middle"
        self.segments = [
            Segment("dpu", self._part(["image"], ["first"])),
            Segment("host", self._part(["first"], ["middle"])),
            Segment("dpu", self._part(["middle"], self.graph.outputs)),
        ]

    def _part(self, inputs: list[str], ends: list[str]) -> Graph:
        part = Graph(ends[0])
        part.tensors, part.inputs, part.outputs = self.graph.tensors, inputs, list(ends)
        return part


class Machine:
    """A segment that takes its time on a machine and gives the same outputs each time."""

    name = "simulated"

    def __init__(self, graph: Graph, machine: Accelerator, found: Mapping[str, Array]) -> None:
        self.inputs, self.outputs, self.quants = tuple(graph.inputs), tuple(graph.outputs), quants_of(graph)
        self._machine, self._found = machine, {name: found[name] for name in graph.outputs}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        assert set(inputs) == set(self.inputs)
        self._machine.work()
        return dict(self._found)


def backend(program: Program, host: Accelerator) -> MixedBackend:
    """The program on an accelerator of its own, and a host that is shared."""
    pixels = np.zeros(program.graph.tensor("image").shape, np.int8)
    found = {**outputs(program.graph), "first": pixels, "middle": pixels}

    def of_dpu(graph: Graph) -> Machine:
        return Machine(graph, Accelerator(FIRST if graph.outputs == ["first"] else LAST), found)

    return MixedBackend(program, of_dpu, lambda graph: Machine(graph, host, found))


def rate(engine: Engine, files: list[str]) -> float:
    """Frames a second of a whole stream."""
    start = time.perf_counter()
    assert sum(1 for result in engine.stream(files, strict=True) if len(result.detections)) == len(files)
    return len(files) / (time.perf_counter() - start)


def alone(*seconds: float) -> float:
    """Frames a second of a side by itself, which does these one after the other."""
    machines = [Accelerator(one) for one in seconds]
    start = time.perf_counter()
    for _ in range(FRAMES):
        for machine in machines:
            machine.work()
    return FRAMES / (time.perf_counter() - start)


def share(backends: list[MixedBackend], busiest: tuple[float, ...], files: list[str]) -> float:
    engine = Engine(backends[0].graph, backends, **CONTEST)
    rate(engine, files[:50])
    rounds = [(rate(engine, files), alone(*busiest)) for _ in range(ROUNDS)]
    rates = [statistics.median(one[kind] for one in rounds) for kind in range(2)]
    found = statistics.median(stream / loop for stream, loop in rounds)
    print(f"{len(backends)} accelerators: {rates[0]:.1f} frames a second, the busiest side alone {rates[1]:.1f}")
    return found


def main() -> int:
    program, files = Program(), images(FRAMES)
    print(f"one segment after the other: {1 / (FIRST + HOST + LAST):.1f} frames a second at most")
    one = share([backend(program, Accelerator(HOST))], (FIRST, LAST), files)
    host = Accelerator(HOST)
    two = share([backend(program, host) for _ in range(2)], (HOST,), files)
    what = "throughput with the middle on the host, one accelerator and two, share of the busiest side's"
    return conclude(what, f"{one:.1%}, {two:.1%}", f"{BAR:.0%}", min(one, two) >= BAR)


if __name__ == "__main__":
    sys.exit(main())
