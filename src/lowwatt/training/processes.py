"""The processes of a run: this one alone, or those that torchrun starts; a thin adapter over Lightning Fabric."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from lowwatt.errors import ToolError
from lowwatt.ranks import world
from lowwatt.recipe import TrainSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")


class Processes:
    """Device, precision and communication of a run. Process 0 writes files and scores; all others compute alike.

    `graphs` says whether networks run as CUDA graphs; `alone` is for whoever captures one, and for other threads of the
    process while they ask its GPU for memory.

    `torchrun --nproc-per-node 4 -m lowwatt train …` makes four of them, `--nnodes` more on other machines.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.world = world()
        device = _device(settings)
        self.precision = _precision(settings, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.fabric = _fabric(device.type, self.precision, self.scaler, self.world)
        self.rank: int = self.fabric.global_rank
        self.device: torch.device = self.fabric.device
        self.graphs = self.device.type == "cuda" and self.world == 1 and settings.cuda_graphs
        self.alone = threading.Lock()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Module whose gradients are averaged over the processes, and its optimizer."""
        wrapped, wrapped_optimizer = self.fabric.setup(module, optimizer)
        return wrapped, wrapped_optimizer

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """What a forward pass runs in that Fabric does not see, a CUDA graph's: casts are made anew each time."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float16
        cast: contextlib.AbstractContextManager[Any] = torch.autocast(self.device.type, kind, cache_enabled=False)
        return cast

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes, without a gradient."""
        if self.world == 1:
            return value.detach()
        mean: Tensor = self.fabric.all_reduce(value.detach().clone(), reduce_op="mean")
        return mean

    def share(self, count: Tensor) -> Tensor:
        """What a process divides a sum over its own `count` things by, so that the mean of the quotients is that of all
        things together: their number, at least 1, by the processes.
        """
        return (self.mean(count) * self.world).clamp(min=1) / self.world

    def gather(self, value: T) -> list[T]:
        """The objects of all processes, in order; the same list in each."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value)
        return found

    def agree(self, value: T) -> T:
        """The first process's object, in all of them."""
        return value if self.world == 1 else self.gather(value)[0]

    def close(self) -> None:
        """Leave the group, where there is one."""
        if self.world > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _device(settings: TrainSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ToolError("there is no CUDA device", where="train.device", hint="use train.device=auto or cpu")
    wanted = settings.device
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)


def _precision(settings: TrainSettings, device: torch.device) -> str:
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cpu":
        return "bf16" if _computes_bf16() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _computes_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself; one that does not is ten times slower with it."""
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in known if ask is not None)


def _fabric(device: str, precision: str, scaler: torch.amp.GradScaler, world: int) -> Fabric:
    """Fabric with as many processes as torchrun started; Fabric itself starts none."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import MixedPrecision, Precision

    plugin: Precision = Precision()
    if precision == "bf16":
        plugin = MixedPrecision("bf16-mixed", device)
    elif precision == "fp16":
        plugin = MixedPrecision("16-mixed", device, scaler)
    # no advice on matrix products, of which there are none
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    strategy = "ddp" if world > 1 else "auto"
    fabric = Fabric(accelerator=device, devices=local, num_nodes=world // local, strategy=strategy, plugins=plugin)
    fabric.launch()
    return fabric
