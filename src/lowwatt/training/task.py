"""What a run trains: the network, its batches, loss and metric. One file a task; the loop knows none of them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowwatt.evaluate.evidence import Evidence
from lowwatt.models.checkpoint import Model, save
from lowwatt.models.networks import build_network
from lowwatt.models.start import load_weights
from lowwatt.ranks import rank
from lowwatt.recipe import Recipe
from lowwatt.training.optimizer import parameter_groups

if TYPE_CHECKING:
    from lowwatt.training.processes import Processes


class Batch(Protocol):
    """images uint8 (N, side, side, C) and the files that they came from; what else there is, the task knows."""

    @property
    def images(self) -> NDArray[np.uint8] | Tensor:
        """The pixels, on a GPU where there is one."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """A name for each image."""
        ...


class Loader(Protocol):
    """Batches of an epoch; the same for the same (seed, epoch), from any step on."""

    batch: int
    """Images of a step, of all processes together."""
    waited: float
    """Seconds that the reader of this epoch has waited for batches."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        ...

    def pixels(self, augment: bool) -> float:
        """Input pixels of an epoch, expected."""
        ...

    def send(self, upload: Callable[[Any], Any]) -> None:
        """Have the threads that make batches bring them to a GPU, by `upload`, too."""
        ...

    def epoch(self, epoch: int, augment: bool, start: int = 0) -> Iterator[Any]:
        """This process's share of the epoch's batches, from step `start`."""
        ...


class Task(ABC):
    """What the loop asks. `parts` names the parts of the loss that the log shows, `metrics` what is measured on val:
    the first decides which weights are kept.
    """

    recipe: Recipe
    loader: Loader
    parts: tuple[str, ...]
    metrics: tuple[str, ...]
    half = True
    """Whether model.safetensors holds float16."""
    always_plain = False
    """Whether no epoch is augmented."""
    graphs = True
    """Whether the network does the same for every batch of a shape, so that a GPU can be told once."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network at its start, on the CPU."""

    def learner(self, module: nn.Module) -> nn.Module:
        """What is called in training, with `loss` reading what it gives; it shares all parameters with the network."""
        return module

    @abstractmethod
    def loss(self, outputs: Any, images: Tensor, batch: Any, plain: bool) -> dict[str, Tensor]:
        """Scalars by name; `loss` is what is differentiated. NCHW images (0…255), `plain` in the last epochs.

        Averaged over processes, it must be the loss of one process that has all images.
        """

    @abstractmethod
    def evaluate(self, module: nn.Module, processes: Processes) -> dict[str, float]:
        """The metrics on val, the work shared by the processes; the same in each."""

    @abstractmethod
    def model(self, module: nn.Module, info: dict[str, Any]) -> Model:
        """What is shipped."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups of the optimizer."""
        return parameter_groups(module, self.recipe.train)

    def evidence(self) -> Evidence:
        """What there is to see of the last evaluation; asked of the first process only."""
        return Evidence()

    def work(self) -> float:
        """Input pixels of one evaluation."""
        return 0.0

    def begin_epoch(self, module: nn.Module, epoch: int) -> None:  # noqa: B027 a hook
        """Called before the first step of an epoch."""

    def after_step(self) -> None:  # noqa: B027 a hook
        """Called after every step of the optimizer."""

    def keep(self, module: nn.Module, info: dict[str, Any], out: Path) -> None:
        """Write the best weights so far."""
        save(self.model(module, info), out / "model.safetensors", self.half)

    def state(self) -> dict[str, Any]:
        """What else an interrupted run needs."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027 a hook
        """Take it up."""


def network_of(recipe: Recipe, labels: Sequence[str]) -> nn.Module:
    """The recipe's network, from its seed, or from the weights that `model.init` names; what fitted is said."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        module = build_network(recipe, len(labels))
    if recipe.model.init:
        start = load_weights(module, recipe.model.init, labels)
        if rank() == 0:
            print(f"init: {start}", file=sys.stderr, flush=True)
    return module
