"""Values that travel between the stages: quantization of a tensor, geometry of an image, detections, results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError

Shape = tuple[int, ...]
Array = NDArray[Any]


Rounding = Literal["DPU_ROUND", "STD_ROUND", "PY3_ROUND"]
"""How halves round, by XIR's names: up, away from zero, to even (`lowwatt.ir.arithmetic.ROUNDINGS`)."""


@dataclass(frozen=True, slots=True)
class QuantParams:
    """How integers of a tensor stand for real values: real = (q - zero_point) * scale, q in [qmin, qmax].

    `scale` is one number, or one for each index along `axis` (weights by output channel; zero_point is
    0 then, and `zero_points` perhaps one for each channel).
    `narrow` leaves the lowest integer of a signed type out, so that the range is symmetric. `rounding` says how real
    values become integers.

    >>> q = QuantParams.power_of_two(4)
    >>> q.scale, q.fix_point, q.qmin, q.qmax
    (0.0625, 4, -128, 127)
    """

    scale: float | tuple[float, ...]
    zero_point: int = 0
    bits: int = 8
    signed: bool = True
    axis: int | None = None
    narrow: bool = False
    rounding: Rounding = "DPU_ROUND"
    zero_points: tuple[int, ...] = ()

    @classmethod
    def power_of_two(cls, fix_point: int, bits: int = 8, signed: bool = True) -> QuantParams:
        """Symmetric, scale 2**-fix_point: the number format of the DPU."""
        return cls(math.ldexp(1.0, -fix_point), 0, bits, signed)

    @property
    def is_fixed_point(self) -> bool:
        """Whether the format is the DPU's: one power-of-two scale, no zero point, halves rounded up."""
        plain = not self.zero_point and not self.narrow and self.rounding == "DPU_ROUND"
        return plain and self.is_power_of_two

    @property
    def is_power_of_two(self) -> bool:
        """Whether there is one scale, a power of two."""
        return isinstance(self.scale, float) and math.frexp(self.scale)[0] == 0.5

    @property
    def fix_point(self) -> int:
        """Binary digits behind the point; ToolError where the scale is no power of two."""
        if isinstance(self.scale, tuple):
            raise ToolError("the tensor has no fix point", why="it has a scale for each channel")
        mantissa, exponent = math.frexp(self.scale)
        if mantissa != 0.5 or self.zero_point != 0:
            raise ToolError("the tensor has no fix point", why=f"scale {self.scale} is not a power of two")
        return 1 - exponent

    def step(self, rank: int) -> NDArray[np.float64]:
        """The scale, shaped to broadcast against an array of `rank` dimensions.

        >>> QuantParams((0.5, 0.25), axis=0).step(2).shape
        (2, 1)
        """
        return self._along(np.asarray(self.scale, np.float64), rank)

    def zeros(self, rank: int) -> NDArray[np.int64]:
        """The zero point or points, shaped likewise."""
        if not self.zero_points:
            return np.asarray(self.zero_point, np.int64)
        return self._along(np.asarray(self.zero_points, np.int64), rank)

    def _along(self, values: NDArray[Any], rank: int) -> NDArray[Any]:
        if self.axis is None:
            return values
        shape = [1] * rank
        shape[self.axis] = -1
        return values.reshape(shape)

    @property
    def qmin(self) -> int:
        """Smallest integer."""
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> str:
        """Name of the NumPy type that holds the integers.

        >>> QuantParams(0.5, bits=4).dtype, QuantParams(0.5, bits=16, signed=False).dtype
        ('int8', 'uint16')
        """
        width = 8 if self.bits <= 8 else 16 if self.bits <= 16 else 32
        return f"{'' if self.signed else 'u'}int{width}"

    def dequantize(self, values: Array) -> NDArray[np.float32]:
        """Real values (float32) of integers."""
        return ((values.astype(np.float64) - self.zeros(values.ndim)) * self.step(values.ndim)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Map from a source image to the network's input: scale, then pad.

    `source` and `size` are (height, width); `left`, `top` the padding in pixels of the input. `scale` is vertical, the
    horizontal one `aspect` times it: 1 but where the image is stretched.
    """

    source: tuple[int, int]
    size: tuple[int, int]
    scale: float
    left: int = 0
    top: int = 0
    aspect: float = field(default=1.0, repr=False)

    @classmethod
    def fit(cls, source: tuple[int, int], size: tuple[int, int], centre: bool = False) -> Letterbox:
        """Largest scale at which the source fits; padding right and bottom, or around it where `centre`.

        >>> Letterbox.fit((480, 640), (320, 320))
        Letterbox(source=(480, 640), size=(320, 320), scale=0.5, left=0, top=0)
        """
        scale = min(size[0] / source[0], size[1] / source[1])
        box = cls(source, size, scale)
        if not centre:
            return box
        height, width = box.resized
        return cls(source, size, scale, (size[1] - width) // 2, (size[0] - height) // 2)

    @classmethod
    def stretch(cls, source: tuple[int, int], size: tuple[int, int]) -> Letterbox:
        """The whole source on the whole input, whatever becomes of its proportions.

        >>> Letterbox.stretch((100, 400), (200, 200)).to_input(np.array([[100, 0, 200, 50]])).tolist()
        [[50.0, 0.0, 100.0, 100.0]]
        """
        scale = size[0] / source[0]
        return cls(source, size, scale, aspect=size[1] / source[1] / scale)

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) of the scaled image, before padding; at least one pixel."""
        return (
            min(self.size[0], max(1, round(self.source[0] * self.scale))),
            min(self.size[1], max(1, round(self.source[1] * self.scale * self.aspect))),
        )

    def inside(self, padded: Array) -> Array:
        """The part of an input (H, W, C) that the image covers: a view."""
        height, width = self.resized
        return padded[self.top : self.top + height, self.left : self.left + width]

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        """What the way back takes: left, top, horizontal and vertical scale, width and height of the source."""
        return self.left, self.top, self.scale * self.aspect, self.scale, self.source[1], self.source[0]

    def _factors(self) -> NDArray[np.float32]:
        return np.array([self.scale * self.aspect, self.scale] * 2, np.float32)

    def to_input(self, xyxy: Array) -> NDArray[np.float32]:
        """Boxes (N, 4) in source pixels → input pixels."""
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        boxes: NDArray[np.float32] = np.asarray(xyxy, np.float32).reshape(-1, 4) * self._factors() + offset
        return boxes

    def to_source(self, xyxy: Array) -> NDArray[np.float32]:
        """Boxes (N, 4) in input pixels → source pixels, clipped to the image."""
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        boxes = (np.asarray(xyxy, np.float32).reshape(-1, 4) - offset) / self._factors()
        height, width = self.source
        clipped: NDArray[np.float32] = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
        return clipped


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What an image goes through before the network. Values stay 0…255; there is no mean or deviation.

    `size` is (height, width) of the input, `channels` 1 (gray, decoded as gray) or 3 (BGR). `fit`: "letterbox" keeps
    the proportions and pads with `pad_value`, around the image where `centre`; "stretch" does not keep them; "crop"
    takes the middle of the image, 7/8 of its shorter side, as classifiers do, but all of one that has the input's size.
    """

    size: tuple[int, int]
    channels: int
    pad_value: int = 0
    centre: bool = False
    fit: Literal["letterbox", "stretch", "crop"] = "letterbox"


@dataclass(frozen=True, slots=True)
class DetectionHead:
    """How to read the network's outputs: per stride a class, box and objectness tensor, each (1, H, W, C), raw logits.

    `outputs` holds (class, box, objectness) tensor names, one triple a stride. `kind` says what the numbers mean:

    * yolox: score = sigmoid(class) * sigmoid(objectness); box channels are (dx, dy, log w, log h): centre =
      (d + cell) * stride, size = exp(log) * stride.
    * fastestdet: score = softmax(class)^.4 * sigmoid(objectness)^.6; box channels are (dx, dy, w, h): centre =
      (tanh(d) + cell) * stride, size = sigmoid * the input's size.
    """

    strides: tuple[int, ...]
    outputs: tuple[tuple[str, str, str], ...]
    num_classes: int
    kind: Literal["yolox", "fastestdet"] = "yolox"

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs, in order."""
        return tuple(name for triple in self.outputs for name in triple)


@dataclass(frozen=True, slots=True)
class ClassHead:
    """How to read a classifier: the output that holds one number a class, greatest for the likeliest."""

    output: str
    num_classes: int

    @property
    def names(self) -> tuple[str, ...]:
        """The one output."""
        return (self.output,)


UNSCORED = 255
"""In a map of classes: a pixel that belongs to none, so that it is neither learnt nor scored."""


@dataclass(frozen=True, slots=True)
class SegmentationHead:
    """How to read a segmenter: the output (1, H, W, classes) with one number a class for each cell of the input.

    `ignore` is the value that the data set's masks have where no class is meant, beside 255.
    """

    output: str
    num_classes: int
    ignore: int = UNSCORED

    @property
    def names(self) -> tuple[str, ...]:
        """The one output."""
        return (self.output,)


Head = DetectionHead | ClassHead | SegmentationHead
"""What a network is for."""


@dataclass(slots=True)
class Detections:
    """Boxes of one image as parallel arrays, best score first.

    xyxy float32 (N, 4) in pixels of the source image; score float32 (N,) in 0…1; label int64 (N,), index into `names`.

    >>> len(Detections.empty(("cat",)))
    0
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]
    names: tuple[str, ...] = ()

    @classmethod
    def empty(cls, names: Sequence[str] = ()) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), tuple(names))

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: Any) -> Detections:
        return Detections(self.xyxy[index], self.score[index], self.label[index], self.names)
