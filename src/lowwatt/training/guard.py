"""What a step can die of, told so that the user can act: losses that are no numbers, and memory that runs out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lowwatt.errors import ToolError
from lowwatt.training.processes import Processes

_SHOWN = 4
"""Files of a batch that are named."""


class LossReader:
    """Means of the losses over the processes, as numbers; ToolError where they are none.

    On a GPU those of a step are read in the next one: whoever waits for a step's own leaves the GPU without work.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes, self.late = processes, processes.device.type == "cuda"
        self._waiting: tuple[tuple[str, ...], Tensor, torch.cuda.Event | None, tuple[Any, ...]] | None = None

    def __call__(self, losses: Mapping[str, Tensor], where: str, files: list[str], rate: float) -> dict[str, float]:
        """What has become known: the losses of this step or, on a GPU, of the one before; nothing at its first."""
        values = self.processes.mean(torch.stack([value.detach().float() for value in losses.values()]))
        before, event = self.rest(), None
        if values.is_cuda:
            values, event = values.to("cpu", non_blocking=True), torch.cuda.Event()
            event.record()
        self._waiting = tuple(losses), values, event, (where, files, rate)
        return before if self.late else self.rest()

    def rest(self) -> dict[str, float]:
        """Of the step that has not been read yet, where there is one."""
        if self._waiting is None:
            return {}
        names, values, event, told = self._waiting
        self._waiting = None
        if event is not None:
            event.synchronize()
        found = dict(zip(names, values.tolist(), strict=True))
        check_finite(found, *told)
        return found


def check_finite(losses: Mapping[str, float], where: str, files: list[str], rate: float) -> None:
    """ToolError that names the batch where the loss is no number."""
    if math.isfinite(losses["loss"]):
        return
    parts = ", ".join(f"{name} {value:.3g}" for name, value in losses.items() if name != "loss")
    shown = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
    raise ToolError(
        f"the loss became {losses['loss']}",
        where=where,
        why=f"{parts}, rate {rate:.3g}; images {shown}",
        hint="lower train.lr, raise train.warmup_epochs or set train.clip; `lowwatt data check` looks at the labels; "
        "--resume goes on from the last save",
    )


@contextlib.contextmanager
def memory_told(batch: Any, try_step: Callable[[Any], Any]) -> Iterator[None]:
    """Turns the end of memory into a ToolError that says how many images a step would take.

    `try_step` runs forward and backward of a batch; it is tried with ever smaller parts of this one.
    """
    try:
        yield
        return
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
    count = len(batch.images)  # outside of the except: its traceback holds the tensors of the step
    fits = _largest(batch, count, try_step)
    hint = f"train.batch={fits} fits" if fits else "lower model.size or model.width: not even one image fits"
    raise out_of_memory(count, hint=f"{hint} (tried just now)")


def out_of_memory(images: int, hint: str, why: str = "") -> ToolError:
    """What to raise where a step of so many images does not fit."""
    return ToolError(f"out of memory with {images} images a step", where="train.batch", why=why, hint=hint)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _largest(batch: Any, count: int, try_step: Callable[[Any], Any]) -> int:
    """Largest half, quarter … of the batch that a step takes; 0 where none does."""
    while count > 1:
        count //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            try_step(_head(batch, count))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            continue
        return count
    return 0


def _head(batch: Any, count: int) -> Any:
    """The first images of a batch, with what belongs to them."""
    fields = {name: getattr(batch, name)[:count] for name in batch.__dataclass_fields__}
    return replace(batch, **fields)
