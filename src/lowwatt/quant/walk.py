"""One walk through a graph, block by block, with the float and the quantized values of all images side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph
from lowwatt.quant.blocks import Block
from lowwatt.quant.executor import TorchExecutor, quantizers_of
from lowwatt.quant.plan import Params
from lowwatt.types import QuantParams

CHUNK = 32
"""Images that run at once."""

Values = dict[str, torch.Tensor]


class Walk:
    """Values of the tensors that cross blocks: made when their block is left, gone after their last reader.

    Constants of `rounded` are on their grids already (nearest); biases in 32 bits, which lose nothing, stay.
    """

    def __init__(
        self, graph: Graph, blocks: Sequence[Block], params: Params, images: torch.Tensor, memory: int
    ) -> None:
        self.graph, self.blocks = graph, blocks
        self.last = {name: block for block in blocks for name in block.inputs}
        own = {t.name: torch.from_numpy(np.array(t.data, np.float32)) for t in graph.constants()}
        self.exact = TorchExecutor(graph, {}, own)
        fine = {name: quant for name, quant in params.items() if quant.bits < 32}
        quantizers = quantizers_of(fine)
        rounded = {name: _on_grid(value, fine[name]) for name, value in own.items() if quantizers.pop(name, None)}
        self.rounded = TorchExecutor(graph, quantizers, {**own, **rounded})
        self.rounded.quantizers = self.quantizers = quantizers
        self.done: set[str] = set()
        """Weights that are reconstructed: a later block that shares them takes them as they are."""
        self._check(len(images), memory)
        name = graph.inputs[0]
        self.real: Values = {name: images}
        self.quantized: Values = {name: quantizers[name](images) if name in quantizers else images}

    def images(self) -> torch.Tensor:
        """The calibration images (N, H, W, C)."""
        return self.real[self.graph.inputs[0]]

    def enter(self, block: Block) -> None:
        """Make the block's float outputs."""
        self.real.update(self._run(self.exact, block, self.real))

    def outputs(self, block: Block) -> Values:
        """The block's quantized outputs."""
        return self._run(self.rounded, block, self.quantized)

    def leave(self, block: Block, outputs: Values | None = None) -> None:
        """Keep the quantized outputs for later blocks, and let go of what no later block reads."""
        self.quantized.update(self.outputs(block) if outputs is None else outputs)
        for name in (*block.inputs, *block.outputs):
            if self.last.get(name, block) is block:
                self.real.pop(name, None)
                self.quantized.pop(name, None)

    def adopt(self, formats: Params) -> None:
        """Quantize these activations in other formats from now on."""
        self.quantizers.update(quantizers_of(formats))

    def _run(self, executor: TorchExecutor, block: Block, values: Mapping[str, torch.Tensor]) -> Values:
        inputs = {name: values[name] for name in block.inputs}
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in block.outputs}
        with torch.no_grad():
            for start in range(0, len(next(iter(inputs.values()))), CHUNK):
                chunk = {name: value[start : start + CHUNK] for name, value in inputs.items()}
                executor.run(block.nodes, chunk, (*block.inputs, *block.outputs))
                for name in parts:
                    parts[name].append(chunk[name])
        return {name: torch.cat(part) for name, part in parts.items()}

    def _check(self, count: int, memory: int) -> None:
        """ToolError where the values alive at once need more than `memory` bytes."""
        need = count * max(self._live())
        if need > memory:
            raise ToolError(
                f"reconstruction would keep {need / 2**30:.1f} GiB of activations",
                why=f"{count} images, and {memory / 2**30:.1f} GiB are allowed",
                hint=f"take {count * memory // need} images, or allow more memory",
            )

    def _live(self) -> list[int]:
        """Bytes of one image in each block: float and quantized values, the block's outputs once more."""
        sizes = {name: 4 * int(np.prod(tensor.shape[1:])) for name, tensor in self.graph.tensors.items()}
        alive = set(self.graph.inputs)
        totals = []
        for block in self.blocks:
            alive.update(block.outputs)
            totals.append(2 * sum(sizes[name] for name in alive) + sum(sizes[name] for name in block.outputs))
            alive = {name for name in alive if name in self.last and self.last[name] is not block}
        return totals or [0]


def _on_grid(value: torch.Tensor, quant: QuantParams) -> torch.Tensor:
    return torch.from_numpy(quant.dequantize(quantize(value.numpy(), quant)))
