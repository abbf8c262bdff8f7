"""What each instruction does to the memories: the number rules of docs/dpu.md 3 on words of banks.

CONV, POOL, DPTWISE and ALU read input rows through `compiler.isa.window`, the same geometry that the compiler waits by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.compiler.isa import Instruction
from lowwatt.compiler.isa.codes import ACTIVATIONS, EXEC_MODES
from lowwatt.compiler.isa.window import Reader, Stretch, Window, load_source
from lowwatt.errors import ToolError
from lowwatt.ir.arithmetic import HARD_SIGMOID_SLOPE, dpu_average_factor
from lowwatt.sim.state import Bytes, Memory

Integers = NDArray[np.int64]
_LEAKY, _RELU, _RELU6 = (ACTIVATIONS[name] for name in ("leaky_relu", "relu", "relu6"))


class Executor:
    """Executes instructions in the order in which they are handed in."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._reader = Reader(memory.target)
        self._lanes = memory.target.array.input_channels

    def execute(self, instruction: Instruction) -> None:
        """One instruction; ToolError where it reads what was never written or leaves a memory."""
        name = instruction.name
        if name.endswith("INIT") or name == "END":
            self._reader.accesses(instruction)
        elif name == "LOAD":
            self._load(instruction.numbers)
        elif name == "SAVE":
            self._save(instruction.numbers)
        elif name == "ELEW":
            self._eltwise(instruction.numbers)
        else:
            _WINDOWS[name](self, self._window(instruction))

    def _window(self, instruction: Instruction) -> Window:
        try:
            return self._reader.window(instruction)
        except KeyError:
            raise ToolError(f"a {instruction.name} stands before its INIT") from None

    # -- LOAD and SAVE ------------------------------------------------------------------------------------------

    def _load(self, n: Mapping[str, int]) -> None:
        count, width = n["length"], n["channel"]
        groups = -(-width // self._lanes)
        values = self._packed(n) if n["pad_start"] or n["pad_end"] else self.memory.stretch(load_source(n, self._lanes))
        if width % self._lanes:
            values = np.pad(values, ((0, 0), (0, -width % self._lanes)))
        words = self.memory.words(n["bank_addr"], count, n["jump_write"], groups)
        self.memory.write(_bank(n["bank_id"]), words, values.reshape(1, -1, self._lanes))

    def _packed(self, n: Mapping[str, int]) -> Bytes:
        """Overlapping pieces of a row; bytes before and behind the row are 0 (docs/dpu.md 8.3, pad_start)."""
        count, width, step = n["length"], n["channel"], n["jump_read"]
        words = -(-width // self._lanes) * self._lanes
        before = np.maximum(0, n["pad_start"] - step * np.arange(count))
        behind = np.zeros(count, np.int64)
        if n["pad_end"]:
            first = count - 1 - n["pad_idx"]
            behind[first:] = n["pad_end"] + step * np.arange(count - first) - (words - width)
        values = np.zeros((count, width), np.int8)
        for k in range(count):
            low, high = int(min(width, before[k])), int(max(0, width - behind[k]))
            if high > low:
                piece = Stretch(n["reg_id"], n["ddr_addr"] + k * step + low, 1, 1, high - low)
                values[k, low:high] = self.memory.stretch(piece)[0]
        return values

    def _save(self, n: Mapping[str, int]) -> None:
        groups = -(-n["channel"] // self._lanes)
        words = self.memory.words(n["bank_addr"], n["length"], n["jump_read"], groups)
        values = self.memory.read(_bank(n["bank_id"]), words).reshape(n["length"], -1)
        sink = Stretch(n["reg_id"], n["ddr_addr"], n["length"], n["jump_write"], n["channel"])
        self.memory.stretch(sink)[...] = values[:, : n["channel"]]

    # -- windows ------------------------------------------------------------------------------------------------

    def _input(self, window: Window, fill: int = 0) -> Bytes:
        """Input [rows, columns, groups, lanes] of all windows of an instruction, `fill` where it is padding."""
        rows = (window.outputs - 1) * window.stride[0] + window.kernel[0]
        columns = (window.length - 1) * window.stride[1] + window.kernel[1]
        found = np.full((rows, columns, window.groups, self._lanes), fill, np.int8)
        there, jump = window.columns, window.numbers["jump_read"]
        inside = slice(there.start, there.stop)
        for run, banks, address in _runs(window.rows, window.stride[0], window.input_row):
            words = self.memory.words(address + there.start * jump, len(there), jump, window.groups)
            values = self.memory.read(banks, words)
            found[run, inside] = values.reshape(-1, len(there), window.groups, self._lanes)
        unused = window.numbers.get("channel_offset", 0)
        if unused and fill == 0:
            found[..., -1, self._lanes - unused :] = 0
        return found

    def _output(self, window: Window, values: Bytes) -> None:
        """Write [outputs, length, groups, lanes]."""
        jump, groups = window.numbers["jump_write"], values.shape[2]
        for run, banks, address in _runs(range(window.outputs), window.numbers["stride_out"], window.output_row):
            words = self.memory.words(address, window.length, jump, groups)
            here = values[run]
            self.memory.write(banks, words, here.reshape(len(here), -1, self._lanes))

    def _conv(self, window: Window) -> None:
        """One group of output channels: sums on the array, then bias, shift and activation."""
        target, n = self.memory.target, window.numbers
        taps, groups = window.kernel[0] * window.kernel[1], window.groups
        banks = target.weight_banks
        words = (n["bank_addr_weights"] + np.arange(taps * groups)) % target.bank_depth
        weights = self.memory.banks[banks.start : banks.stop][:, words]
        weights = weights.reshape(len(banks), taps, groups * self._lanes)
        x = self._input(window).reshape(
            -1, (window.length - 1) * window.stride[1] + window.kernel[1], groups * self._lanes
        )
        acc = _correlate(x, weights, window)
        bias = self.memory.banks[target.bias_bank, n["bank_addr_bias"] % target.bank_depth]
        self._output(window, _finish(acc, bias, n)[:, :, None])

    def _depthwise(self, window: Window) -> None:
        target, n = self.memory.target, window.numbers
        assert target.depthwise_bank is not None
        taps, groups = window.kernel[0] * window.kernel[1], window.groups
        words = self.memory.words(n["bank_addr_weights"], taps, n.get("jump_read_weights", groups), groups)
        weights = self.memory.read(_bank(target.depthwise_bank), words).reshape(taps, groups, -1).astype(np.int64)
        x, acc = self._input(window), np.int64(0)
        for k, tap in enumerate(_taps(x, window)):
            acc = acc + tap * weights[k]
        bias = self.memory.read(_bank(target.bias_bank), self.memory.words(n["bank_addr_bias"], 1, 1, groups))
        self._output(window, _finish(np.asarray(acc), bias[0], n))

    def _max(self, window: Window) -> None:
        x = self._input(window, fill=-128)
        best = None
        for tap in _taps(x, window):
            best = tap if best is None else np.maximum(best, tap)
        assert best is not None
        self._output(window, best.astype(np.int8))

    def _average(self, window: Window, factor: int, digits: int) -> None:
        total = np.sum(_taps(self._input(window), window), axis=0, dtype=np.int64)
        self._output(window, _round(np.asarray(total * factor), digits))

    def _pool(self, window: Window) -> None:
        if window.numbers["pool_type"] == 0:
            return self._max(window)
        factor, digits = dpu_average_factor(window.kernel)
        return self._average(window, factor, digits + window.numbers["shift_cut"])

    def _alu(self, window: Window) -> None:
        n, mode = window.numbers, window.numbers["exec_mode"]
        if mode == EXEC_MODES["depthwise"]:
            self._depthwise(window)
        elif mode == EXEC_MODES["max"]:
            self._max(window)
        elif mode == EXEC_MODES["average"]:
            self._average(window, n["multi_factor"], n["shift_cut"])
        elif mode == EXEC_MODES["hard_sigmoid"]:
            q = self._input(window).astype(np.int64)
            line = HARD_SIGMOID_SLOPE * q + ((3 * HARD_SIGMOID_SLOPE) << n["shift_bias"])
            self._output(window, _round(np.maximum(line, 0), n["shift_cut"]))
        else:
            raise ToolError("the simulator does not know an ALU mode", why=f"exec_mode {mode}")

    # -- ELEW ---------------------------------------------------------------------------------------------------

    def _eltwise(self, n: Mapping[str, int]) -> None:
        rows, maps = n.get("valid_pixel_parallel", 1), []
        for index in range(n["num"]):
            one = self._reader.operands[index].numbers
            words = self.memory.words(one["bank_addr_in"], n["length"], one["jump_read"], n["channel_group"])
            values = self.memory.read(_bank(one["bank_id_in"], rows), words)
            maps.append((values.astype(np.int64), one["shift_read"]))
        words = self.memory.words(n["bank_addr_out"], n["length"], n["jump_write"], n["channel_group"])
        self.memory.write(_bank(n["bank_id_out"], rows), words, _combine(maps, n))


_WINDOWS: Mapping[str, Callable[[Executor, Window], None]] = {
    "CONV": Executor._conv,
    "DPTWISE": Executor._depthwise,
    "POOL": Executor._pool,
    "ALU": Executor._alu,
}


def _bank(first: int, count: int = 1) -> slice:
    """Neighbouring banks."""
    return slice(first, first + count)


def _runs(rows: range, stride: int, place: Callable[[int], tuple[int, int]]) -> Iterator[tuple[slice, slice, int]]:
    """Rows that lie at one address of neighbouring banks, brought together: which rows, their banks, the address."""
    for phase in range(min(stride, len(rows))):
        some = rows[phase::stride]
        places = [place(row) for row in some]
        starts = [k for k in range(len(some)) if not k or places[k] != (places[k - 1][0] + 1, places[k - 1][1])]
        for first, stop in pairwise([*starts, len(some)]):
            run, (bank, address) = some[first:stop], places[first]
            yield slice(run.start, run.stop, run.step), _bank(bank, len(run)), address


def _taps(x: Bytes, window: Window) -> list[Integers]:
    """For each kernel position what all windows see there."""
    (kh, kw), (sh, sw) = window.kernel, window.stride
    high, wide = (window.outputs - 1) * sh + 1, (window.length - 1) * sw + 1
    return [x[i : i + high : sh, j : j + wide : sw].astype(np.int64) for i in range(kh) for j in range(kw)]


def _correlate(x: Bytes, weights: Bytes, window: Window) -> Integers:
    """acc [outputs, length, lanes out]: exact, since float32 holds sums of a thousand products, and taps add as int."""
    (kh, kw), (sh, sw) = window.kernel, window.stride
    high, wide = (window.outputs - 1) * sh + 1, (window.length - 1) * sw + 1
    exact = "float32" if weights.shape[2] <= 1024 else "float64"
    real: NDArray[np.floating[Any]] = x.astype(exact)
    filters: NDArray[np.floating[Any]] = weights.astype(exact)
    acc = np.zeros((window.outputs, window.length, len(weights)), np.float64)
    for i in range(kh):
        for j in range(kw):
            tap = real[i : i + high : sh, j : j + wide : sw]
            acc += tap @ filters[:, i * kw + j].T
    return acc.astype(np.int64)


def _finish(acc: Integers, bias: Bytes, n: Mapping[str, int]) -> Bytes:
    """Bias at half an accumulator step, activation on the unrounded value, one rounding (docs/dpu.md 3.2)."""
    doubled = 2 * acc + (bias.astype(np.int64) << n["shift_bias"])
    return _round(doubled, n["shift_cut"] + 1, n["act_type"])


def _round(value: Integers, digits: int, act: int = 0) -> Bytes:
    """R(activation(value / 2**digits))."""
    if act == _LEAKY:
        value, digits = np.where(value < 0, value * 26, value << 8), digits + 8
    elif act in (_RELU, _RELU6):
        value = np.maximum(value, 0)
    high = 96 if act == _RELU6 else 127
    rounded: Integers = (value + (1 << (digits - 1))) >> digits if digits > 0 else value << -digits
    clipped: Bytes = np.clip(rounded, -128, high).astype(np.int8)
    return clipped


def _combine(maps: list[tuple[Integers, int]], n: Mapping[str, int]) -> Bytes:
    """Addition with two guard bits, or multiplication (docs/dpu.md 3.3)."""
    act = _RELU if n["act_type"] else 0
    if n["elew_type"] == 0:
        total = np.sum([(value << 2) >> shift for value, shift in maps], axis=0)
        return _round(total, 2 - n["shift_write"], act)
    product = np.prod([value for value, _ in maps], axis=0)
    return _round(product, -n["shift_write"], act)
