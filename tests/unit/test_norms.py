"""Batch norms measured before an evaluation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lowwatt.recipe import TrainSettings  # noqa: E402
from lowwatt.training.norms import live_norms, measured_norms  # noqa: E402
from lowwatt.training.optimizer import train_mode  # noqa: E402
from lowwatt.training.processes import Processes  # noqa: E402


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)).eval()


def batches(count: int = 3) -> list:
    return [10 + 5 * torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(i)) for i in range(count)]


def test_statistics_are_those_of_the_images_and_go_back() -> None:
    module, images = network(), batches()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with measured_norms(module, ["1", "4"], images, Processes(TrainSettings(device="cpu"))):
        assert not module.training
        with torch.no_grad():
            seen = module[0](torch.cat(images))
            normal = module[1](seen)
        torch.testing.assert_close(module[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
        assert float(normal.mean((0, 2, 3)).abs().max()) < 1e-3
        assert float((normal.var((0, 2, 3)) - 1).abs().max()) < 0.05
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module[1].momentum == 0.1


def test_frozen_norms_and_no_images_change_nothing() -> None:
    module, processes = network(), Processes(TrainSettings(device="cpu"))
    module[1].requires_grad_(False)
    train_mode(module)
    assert live_norms(module) == ["4"]
    train_mode(module, norms=False)
    assert live_norms(module) == []
    before = module[1].running_mean.clone()
    with measured_norms(module, ["4"], batches(), processes):
        assert torch.equal(module[1].running_mean, before)
    with measured_norms(module, ["4"], [], processes):
        assert torch.equal(module[4].running_mean, torch.zeros(2))
