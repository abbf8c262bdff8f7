"""Layer: a superlayer with everything that its instructions need, worked out from the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from lowwatt.compiler.lowering.numbers import Alignment, Scaling
from lowwatt.compiler.subject import FeatureMap, Window

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Phase:
    """Outputs of a convolution that one pattern of CONV makes.

    A plain convolution has one phase, a transposed one stride x stride of them, a dilated one dilation x dilation.
    `taps` are its kernel positions in the stored weights, row by row; `origin` is the source (row, column) that its
    first output's window begins at, `output` that first output's own (row, column).
    """

    kernel: Pair
    taps: tuple[Pair, ...]
    origin: Pair
    output: Pair = (0, 0)


@dataclass(frozen=True, slots=True)
class Convolution:
    """Work of the array.

    Output (i, j) of a phase is at `phase.output + step * (i, j)` of the grid; its window begins
    `spacing * stride * (i, j)` source rows and columns behind the phase's origin, and its rows and columns are
    `spacing` apart. So a plain convolution has step 1 and spacing 1, a transposed one its stride as step, a dilated one
    its dilation as step and spacing. `packed`: LOAD packs the kernel's columns beside the channels (augmentation).
    """

    phases: tuple[Phase, ...]
    scaling: Scaling
    channels: int
    stride: Pair = (1, 1)
    spacing: Pair = (1, 1)
    step: Pair = (1, 1)
    packed: bool = False
    weights: int = 0
    bias: int = 0

    @property
    def weight_phases(self) -> tuple[Phase, ...]:
        """Phases with weights of their own: all of a transposed convolution, else the first stands for all."""
        return self.phases if self.spacing == (1, 1) else self.phases[:1]

    @property
    def taps(self) -> int:
        """Kernel positions that have weights."""
        return sum(len(phase.taps) for phase in self.weight_phases)

    @property
    def weight_pieces(self) -> int:
        """Pieces in which LOAD brings one output channel's weights: kernel rows where it packs columns, else taps."""
        return self.phases[0].kernel[0] if self.packed else self.taps

    @property
    def tall(self) -> bool:
        """True where an output row sees more than one source row."""
        return any(phase.kernel[0] > 1 for phase in self.phases)


@dataclass(frozen=True, slots=True)
class Misc:
    """Work of the MISC engine on the map that reaches it: `rows` output rows at once.

    kind: max, average, depthwise, add, mul, hard_sigmoid. `operands` are further maps (the other side of an addition).
    `factor` is an average's N; `weights` and `bias` are addresses in the constants.
    """

    kind: str
    rows: int
    window: Window = field(default_factory=Window)
    scaling: Scaling = field(default_factory=Scaling)
    alignment: Alignment | None = None
    operands: tuple[str, ...] = ()
    first_operand: int = 0
    factor: int = 0
    weights: int = 0
    bias: int = 0

    @property
    def is_elementwise(self) -> bool:
        """True for additions and multiplications."""
        return self.kind in ("add", "mul")

    @property
    def has_weights(self) -> bool:
        """True for depthwise convolutions."""
        return self.kind == "depthwise"


@dataclass(frozen=True, slots=True)
class Fold:
    """Tiles whose lines are pieces of rows, put together by LOAD (`lowering.mapping`).

    Grid rows before `rows` are worked on as they lie. Then come `tiles`: each line of the array makes `columns` columns
    from (row, column) on. `zeros` is where the constants hold zeros for the padding.
    """

    rows: int
    tiles: tuple[tuple[Pair, ...], ...]
    columns: int
    zeros: int = 0


@dataclass(frozen=True, slots=True)
class Border:
    """What a copy puts around a map: rows and columns, and where the constants hold pixels of them; None repeats the
    map's edge."""

    top: int
    left: int
    right: int
    fill: int | None = None


@dataclass(slots=True)
class Layer:
    """A layer, ready to be tiled and emitted.

    `source` is read from DRAM, `grid` is what the array makes of it (the source itself without a convolution), and
    `sink` what goes back. `repeat`: rows and columns by which a resize repeats each pixel; `border`: what a copy puts
    around the map. `flat`: rows are stretches of pixels, not rows of the maps; `fold`: some tiles are made of pieces of
    rows (`lowering.mapping`).
    """

    name: str
    op: str
    origin: str
    nodes: tuple[str, ...]
    macs: int
    input: str
    source: FeatureMap
    grid: FeatureMap
    sink: FeatureMap
    conv: Convolution | None = None
    misc: Misc | None = None
    repeat: Pair = (1, 1)
    border: Border | None = None
    flat: bool = False
    fold: Fold | None = None

    @property
    def window(self) -> Window:
        """Window through which the sink sees the grid."""
        return self.misc.window if self.misc is not None else Window()

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a source pixel in the banks, where the kernel's columns may lie beside it."""
        conv = self.conv
        return self.source.channels * (conv.phases[0].kernel[1] if conv is not None and conv.packed else 1)

    def source_groups(self, lanes: int) -> int:
        """Words of a source pixel."""
        return ceil(self.pixel_bytes / lanes)

    def weight_words(self, lanes: int) -> int:
        """Words of one output channel's weights; 0 without a convolution."""
        return 0 if self.conv is None else self.conv.weight_pieces * self.source_groups(lanes)

    @property
    def source_stride(self) -> int:
        """Rows of a slot of the source."""
        conv = self.conv
        return self.window.stride[0] if conv is None else conv.stride[0] * conv.spacing[0]

    @property
    def grid_stride(self) -> int:
        """Rows of a slot of the grid: what reads it decides, or how the array writes it."""
        conv = self.conv
        return conv.step[0] if conv is not None and conv.step[0] > 1 else self.window.stride[0]
