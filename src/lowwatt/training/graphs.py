"""A network's forward and backward pass as CUDA graphs: a thousand kernels that the processor starts as two.

A small detector keeps a GPU busy for a third of the time that Python takes to ask for it, kernel by kernel.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lowwatt.training.norms import is_norm


class Graphs:
    """Calls a module on a GPU. What it does is captured once for each shape of images, and again where batch norms turn
    from live to frozen, and replayed from then on.

    The outputs of a call are overwritten by the next one. The graphs of all shapes share the memory in between. `alone`
    is held while one is captured: other threads that ask the GPU for memory must hold it, too.
    """

    def __init__(
        self, module: nn.Module, autocast: Callable[[], contextlib.AbstractContextManager[Any]], alone: threading.Lock
    ) -> None:
        self.module, self.autocast, self.alone = module, autocast, alone
        self._captured: dict[tuple[Any, ...], Callable[[Tensor], Any]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        warn = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if warn is not None:  # capturing goes to a stream of its own, and torch tells the user so
            warn(False)

    def __call__(self, images: Tensor) -> Any:
        """What the module gives for images NCHW, with gradients."""
        live = tuple(norm.training for norm in self.module.modules() if is_norm(norm))
        key = (images.shape, live)
        if key not in self._captured:
            self._captured[key] = self._capture(images)
        return self._captured[key](images)

    def _capture(self, images: Tensor) -> Callable[[Tensor], Any]:
        with self.alone, _unchanged_buffers(self.module):
            graphed: Callable[[Tensor], Any] = torch.cuda.make_graphed_callables(
                _Cast(self.module, self.autocast), (images.clone(),), allow_unused_input=True, pool=self._pool
            )
        return graphed


class _Cast(nn.Module):
    """A module in the precision of the run."""

    def __init__(self, module: nn.Module, autocast: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.module, self.autocast = module, autocast

    def forward(self, images: Tensor) -> Any:
        """What the module gives."""
        with self.autocast():
            return self.module(images)


@contextlib.contextmanager
def _unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Capturing runs the module some times, which the statistics of its batch norms must not remember."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    yield
    for buffer, value in before:
        buffer.copy_(value)
