"""Weights and bias of a chunk of output channels: where they lie in the banks, and the LOADs that bring them."""

from __future__ import annotations

from dataclasses import dataclass, field

from lowwatt.compiler.dram import CONSTANTS
from lowwatt.compiler.lowering.axes import channels_of
from lowwatt.compiler.lowering.emitter import Emitter
from lowwatt.compiler.lowering.layer import Convolution, Layer, Misc
from lowwatt.compiler.lowering.space import Space


@dataclass(slots=True)
class Parameters:
    """Parameters of the channel groups `groups` of a layer. Strips of the same channels share them."""

    layer: Layer
    groups: range
    emitter: Emitter
    space: Space
    loaded: bool = False
    bias: int = 0
    misc_weights: int = 0
    misc_bias: int = 0
    weights: dict[int, int] = field(default_factory=dict)
    """First word of each channel group's weights, as far as they were loaded."""

    def load(self) -> None:
        """All but the weights of the array, which come one channel group after the other; only once."""
        layer = self.layer
        if self.loaded:
            return
        self.loaded = True
        if layer.conv is not None:
            self.bias = self._load_bias(layer.conv.bias, layer.conv.channels)
            # rows wait for the layer before; weights need not wait behind them
            if self.space.runs_on:
                self.load_weights(layer.conv, self.groups.start)
        if layer.misc is not None and layer.misc.has_weights:
            self._load_depthwise(layer.misc)

    @property
    def _lanes(self) -> int:
        return self.emitter.target.array.input_channels

    def _load_bias(self, address: int, channels: int) -> int:
        """First word of the bias."""
        here = channels_of(self.groups, self._lanes, channels)
        word, bank, size = self.space.take("bias", len(self.groups)), self.emitter.target.bias_bank, len(here)
        self.emitter.load_bytes(CONSTANTS, address + here.start, bank, word, 1, size, size, len(self.groups))
        return word

    def load_weights(self, conv: Convolution, group: int) -> None:
        """Weights of a channel group, one LOAD an output channel; only once."""
        if group in self.weights:
            return
        address = self.weights[group] = self.space.take("weights", self.layer.weight_words(self._lanes))
        count, width, words = conv.weight_pieces, self.layer.pixel_bytes, self.layer.source_groups(self._lanes)
        for lane, channel in enumerate(channels_of(range(group, group + 1), self._lanes, conv.channels)):
            bank = self.emitter.target.weight_banks.start + lane
            start = conv.weights + channel * count * width
            self.emitter.load_bytes(CONSTANTS, start, bank, address, count, width, width, words)

    def _load_depthwise(self, misc: Misc) -> None:
        target, words, positions = self.emitter.target, len(self.groups), misc.window.positions
        assert target.depthwise_bank is not None
        total = self.layer.sink.channels
        here = channels_of(self.groups, self._lanes, total)
        start, bank, size = misc.weights + here.start, target.depthwise_bank, len(here)
        self.misc_weights = self.space.take("depthwise", positions * words)
        self.emitter.load_bytes(CONSTANTS, start, bank, self.misc_weights, positions, total, size, words)
        self.misc_bias = self._load_bias(misc.bias, total)

    def of_conv(self, conv: Convolution, group: int, offset: int = 0) -> dict[str, int]:
        """Fields of a CONV: weights (`offset` kernel positions behind the first), bias and scaling of a group."""
        words = self.layer.source_groups(self._lanes)
        return {
            "shift_cut": conv.scaling.shift_cut,
            "shift_bias": conv.scaling.shift_bias,
            "act_type": conv.scaling.act_type,
            "bank_addr_weights": self.weights[group] + offset * words,
            "bank_addr_bias": self.bias + group - self.groups.start,
            "channel_group": words,
            "channel_offset": words * self._lanes - self.layer.pixel_bytes,
        }

    def of_depthwise(self, misc: Misc) -> dict[str, int]:
        """Fields of a depthwise convolution on MISC."""
        return {
            "act_type": misc.scaling.act_type,
            "bank_addr_weights": self.misc_weights,
            "bank_addr_bias": self.misc_bias,
            "jump_read_weights": len(self.groups),
        }
