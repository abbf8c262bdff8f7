"""Program: what a machine makes of a graph, with time and traffic of every layer, and its one-file form (`.lwp`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lowwatt.compiler.costs import LayerCost
from lowwatt.compiler.golden import Golden, make_golden
from lowwatt.compiler.partition import Side
from lowwatt.compiler.program_file import FORMAT, part, read_program, recompile, unpack_graph, write_program
from lowwatt.compiler.record import record, typed
from lowwatt.compiler.rules import Verdict
from lowwatt.compiler.segment import Segment
from lowwatt.compiler.segment_file import pack_segment, unpack_segment
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import Target, load_target, target_names


@dataclass(slots=True)
class Program:
    """A graph compiled for a machine.

    Times are modelled milliseconds a frame: `dpu_ms` on the accelerator, `host_ms` on the board's CPU after it (reading
    the outputs, and `host_nodes_ms` for operators that the accelerator does not take, which is an estimate).
    `free` names nodes that cost nothing (a concat by addresses). `segments` are what runs on each side, in order, those
    of the accelerator with their instructions; `schedule` is how these were arranged.
    """

    graph: Graph
    target: Target
    layers: list[LayerCost]
    verdicts: list[Verdict]
    free: list[str]
    host_ms: float
    host_nodes_ms: float = 0.0
    golden: Golden | None = None
    segments: list[Segment] = field(default_factory=list)
    schedule: str = "vendor"

    @property
    def dpu_ms(self) -> float:
        """Milliseconds a frame on the accelerator."""
        return sum((layer.ms for layer in self.layers if layer.where == "dpu"), 0.0)

    @property
    def latency_ms(self) -> float:
        """Milliseconds a frame: accelerator, then host (they do not overlap in the published measurements)."""
        return self.dpu_ms + self.host_ms

    @property
    def fps(self) -> float:
        """Frames a second, one after the other."""
        return 1000.0 / self.latency_ms

    @property
    def macs(self) -> int:
        """Multiply-accumulates a frame."""
        return sum(layer.macs for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Every figure as json-able values (the graph is left out)."""
        return {
            "format": FORMAT,
            "graph": self.graph.name,
            "target": self.target.name,
            "fingerprint": f"{self.target.fingerprint:#x}",
            "provenance": self.target.provenance,
            "latency_ms": self.latency_ms,
            "dpu_ms": self.dpu_ms,
            "host_ms": self.host_ms,
            "host_nodes_ms": self.host_nodes_ms,
            "fps": self.fps,
            "macs": self.macs,
            "layers": [asdict(layer) for layer in self.layers],
            "free": self.free,
            "schedule": self.schedule,
            "segments": [_summary(segment) for segment in self.segments],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }

    def save(self, path: str | Path) -> None:
        """Write the program to one file, atomically; equal programs give equal bytes.

        A quantized graph takes a golden input and the integer reference's output along; `verify` compares them.
        """
        golden = self.golden or make_golden(self.graph)
        members = {} if golden is None else golden.pack()
        for index, segment in enumerate(self.segments):
            members |= {f"segments/{index:03d}/{name}": data for name, data in pack_segment(segment).items()}
        write_program(path, {**self.to_json(), "machine": self.target.to_json()}, self.graph, members)

    def verify(self) -> int:
        """Run the golden input through the integer reference; returns how many output elements differ (0: sound).

        ToolError where the program carries none (a float graph, or one that was not loaded from a file).
        """
        if self.golden is None:
            raise ToolError("the program carries no golden output", where=self.graph.name)
        return self.golden.differences(self.graph)

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read a program; ToolError where the file is missing, foreign, damaged, newer, or for another machine."""
        description, members = read_program(path)
        try:
            program = _rebuild(description, members)
        except ToolError as error:
            raise ToolError(error.what, where=str(path), why=error.why or error.where, hint=error.hint) from None
        except Exception as error:  # json that was written by somebody else can be of any wrong kind
            raise ToolError("the program's file is damaged", where=str(path), why=str(error)) from None
        _check_machine(description, program.target, path)
        return program


def _check_machine(description: dict[str, Any], target: Target, path: str | Path) -> None:
    """The program's fingerprint must be that of the machine in it, and of what its name stands for here."""
    machines = {"the machine in it": target}
    if target.name in target_names():
        machines[f"{target.name} here"] = load_target(target.name)
    for who, machine in machines.items():
        if f"{machine.fingerprint:#x}" != description.get("fingerprint"):
            raise ToolError(
                "the program was compiled for another machine",
                where=str(path),
                why=f"its fingerprint is {description.get('fingerprint')}, that of {who} is {machine.fingerprint:#x}",
                hint=recompile(path, description),
            )


def _summary(segment: Segment) -> dict[str, Any]:
    """What a segment is, in short."""
    return {
        "side": segment.side,
        "nodes": [node.name for node in segment.graph.nodes],
        "layers": [layer.name for layer in segment.layers],
        "instructions": len(segment.instructions),
        "dram_bytes": {str(register): size for register, size in segment.dram.sizes.items()},
    }


def _rebuild(description: Mapping[str, Any], members: Mapping[str, bytes]) -> Program:
    graph, target = unpack_graph(members), Target.from_json(description["machine"])
    named = sorted(name for summary in description["segments"] for name in summary["nodes"])
    if named != sorted(node.name for node in graph.nodes):
        raise ToolError("the program's file is damaged", why="its segments are not the parts of its graph")
    segments = [
        unpack_segment(
            typed(Side, summary["side"], "side"),
            summary["nodes"],
            graph,
            target,
            part(members, f"segments/{index:03d}/"),
        )
        for index, summary in enumerate(description["segments"])
    ]
    return Program(
        graph,
        target,
        [record(LayerCost, row) for row in description["layers"]],
        [record(Verdict, row) for row in description["verdicts"]],
        list(typed(tuple[str, ...], description["free"], "free")),
        typed(float, description["host_ms"], "host_ms"),
        typed(float, description["host_nodes_ms"], "host_nodes_ms"),
        Golden.unpack(graph, members),
        segments,
        typed(str, description["schedule"], "schedule"),
    )
