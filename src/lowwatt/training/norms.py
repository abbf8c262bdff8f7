"""Batch norms of averaged weights: statistics measured on images like those of the last epoch, not remembered.

Running statistics follow the last hundred steps at a momentum of .03. Where augmentation ends shortly before the end,
they still are those of mosaics, and wrong enough to take all of the accuracy ("precise BN", Wu and Johnson, arXiv
2105.07576, 3). They must be of what the weights have learnt from: as wrong are those of whole images for weights that
have seen mosaics only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lowwatt.training.processes import Processes


def live_norms(module: nn.Module) -> list[str]:
    """Names of the batch norms that take the batch's own statistics, as the module stands."""
    return [name for name, norm in module.named_modules() if is_norm(norm) and norm.training]


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm with statistics."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


@contextlib.contextmanager
def measured_norms(
    module: nn.Module, names: Iterable[str], images: Iterable[Tensor], processes: Processes
) -> Iterator[None]:
    """Within, these batch norms of `module` have the mean statistics of the batches (NCHW); behind it, their own again.

    Every process gives as many batches. Nothing changes where there are none.
    """
    norms = [module.get_submodule(name) for name in names]
    if not norms:  # frozen, or none: no image need be looked at
        yield
        return
    before = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    _measure(module, norms, images, processes)
    try:
        yield
    finally:
        for norm, state, momentum in zip(norms, before, momenta, strict=True):
            norm.load_state_dict(state)
            norm.momentum = momentum


@torch.no_grad()
def _measure(module: nn.Module, norms: list[nn.Module], images: Iterable[Tensor], processes: Processes) -> None:
    """One pass with only these norms in training mode, at momenta that average all batches alike."""
    module.eval()
    for batch_number, batch in enumerate(images):
        if batch_number == 0:
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
        for norm in norms:
            norm.momentum = 1 / (batch_number + 1)
        module(batch)
    module.eval()
    for norm in norms:
        norm.running_mean.copy_(processes.mean(norm.running_mean))
        norm.running_var.copy_(processes.mean(norm.running_var))
