"""Schemes: what a target's INT8 looks like, as data. A target is one YAML file in `schemes/`, or the user's own.

A scheme says which operators run on integers there, which of their tensors carry integers, in which number format, and
which tensors must share one. `lowwatt.quant.plan` applies it to a graph; nothing in it knows a model.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lowwatt import yaml_text
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.types import Rounding

FOLDER = Path(__file__).parent / "schemes"

Method = Literal["minmax", "ema", "percentile", "mse", "kl", "lsq"]

Activation = Literal["relu", "relu6", "leaky_relu"]

Export = Literal["xmodel", "xmodel-compiled", "qdq", "qdq-fast", "deploy", "ncnn", "tflite"]
"""What the target's own tools read (`lowwatt.verbs.export.FORMATS`)."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NumberFormat(_Settings):
    """What integers of one kind of tensor look like.

    `symmetric`: no zero point. `power_of_two`: a fix point instead of any scale. `per_channel`: a scale for each output
    channel (weights). `narrow`: without the lowest integer.
    """

    bits: int = Field(8, ge=2, le=32)
    signed: bool = True
    symmetric: bool = True
    power_of_two: bool = False
    per_channel: bool = False
    narrow: bool = False
    rounding: Rounding = "PY3_ROUND"

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        if not self.signed:
            return 0, (1 << self.bits) - 1
        return -(1 << (self.bits - 1)) + self.narrow, (1 << (self.bits - 1)) - 1

    def __str__(self) -> str:
        words = [f"{'' if self.signed else 'u'}int{self.bits}", "power of two" if self.power_of_two else ""]
        words += ["" if self.symmetric else "with zero point", "per channel" if self.per_channel else ""]
        return ", ".join(word for word in words if word)


class Scheme(_Settings):
    """A target's number format and the rules that place it.

    `operators` run on integers on the target ("integer": all that have an integer rule of the DPU's kind). `tensors`
    says which of their tensors then carry integers: what they read ("inputs"), or that and what they make ("both").
    Tensors that an operator of `share` joins have one format and scale. `fixed` are operators whose 8-bit output has
    one scale and zero point, whatever the images. `bias` None leaves biases in float; 32 bits give them the scale of
    the accumulator. `ends` is the bits of the first and last layers' weights and inputs, None: like all others.
    `legality` names rules between the scales of several tensors. `fuse` are the activations that the target's layers
    contain. `apart`: layers round what they read for themselves, others read it unrounded. `exports` are the files that
    its tools read, the usual one first; `runtimes` the backends of lowwatt that run its graphs, the target's own first.
    """

    name: str
    about: str = ""
    sources: tuple[str, ...] = ()
    activations: NumberFormat = NumberFormat()
    weights: NumberFormat = NumberFormat()
    bias: NumberFormat | None = None
    operators: tuple[str, ...] | Literal["integer"]
    tensors: Literal["inputs", "both"] = "both"
    share: tuple[str, ...] = ()
    fixed: dict[str, tuple[float, int]] = Field(default_factory=dict)
    ends: int | None = Field(None, ge=2, le=16)
    legality: Literal["none", "dpu"] = "none"
    calibration: Method = "mse"
    fuse: tuple[Activation, ...] = ("relu", "relu6", "leaky_relu")
    apart: bool = False
    exports: tuple[Export, ...] = Field(("qdq",), min_length=1)
    runtimes: tuple[str, ...] = ("onnxruntime",)

    def with_bits(self, weights: int | None, activations: int | None) -> Scheme:
        """The scheme at other bit widths; None leaves one as it is."""
        changes: dict[str, Any] = {}
        for kind, bits in (("weights", weights), ("activations", activations)):
            if bits is not None:
                if not 2 <= bits <= 16:
                    raise ToolError(f"{bits}-bit {kind}", where=self.name, why="2 to 16 bits are possible")
                changes[kind] = getattr(self, kind).model_copy(update={"bits": bits})
        if changes and self.legality == "dpu" and any(f.bits != 8 for f in changes.values()):
            raise ToolError("the DPU has 8 bits only", where=self.name, hint="academic takes any number of bits")
        return self.model_copy(update=changes)


def scheme_names() -> tuple[str, ...]:
    """Names of the schemes that come along."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_scheme(name: str | Path | Scheme) -> Scheme:
    """Scheme of a name, or of a user's own YAML file; ToolError for an unknown name or setting.

    >>> load_scheme("vitis").activations.power_of_two
    True
    """
    if isinstance(name, Scheme):
        return name
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in scheme_names():
            hint = did_you_mean(str(name), scheme_names()) or f"known: {', '.join(scheme_names())}, or your own .yaml"
            raise ToolError(f"unknown scheme {name}", hint=hint)
        path = FOLDER / f"{name}.yaml"
    return _read(path)


@cache
def _packaged(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _read(path: Path) -> Scheme:
    try:
        text = _packaged(path) if path.parent == FOLDER else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError("cannot read the scheme", where=str(path), why=str(error)) from None
    content = yaml_text.parse(text, "cannot read the scheme", str(path))
    if not isinstance(content, dict):
        raise ToolError("cannot read the scheme", where=str(path), why="it is not a mapping of settings")
    try:
        scheme = Scheme.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        raise _explain(error, str(path)) from None
    return _checked(scheme, str(path))


def _checked(scheme: Scheme, where: str) -> Scheme:
    from lowwatt.ir.ops import operator_names

    named = (*(scheme.operators if scheme.operators != "integer" else ()), *scheme.share, *scheme.fixed)
    for op in named:
        if op not in operator_names():
            raise ToolError(f"unknown operator {op}", where=where, hint=did_you_mean(op, operator_names()))
    if scheme.activations.per_channel:
        raise ToolError("activations have one scale a tensor", where=where, hint="set per_channel on weights")
    return scheme


def _explain(error: ValidationError, where: str) -> ToolError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        fields = NumberFormat.model_fields if len(path) > 1 else Scheme.model_fields
        return ToolError(f"unknown setting {'.'.join(path)}", where=where, hint=did_you_mean(path[-1], fields))
    return ToolError(f"wrong value for {'.'.join(path)}", where=where, why=f"{first['msg']}, given {first['input']!r}")
