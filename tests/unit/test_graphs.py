"""When CUDA graphs are captured, with a stand-in for capturing; what they compute is in test_gpu.py."""

from __future__ import annotations

import contextlib
import threading

import pytest

torch = pytest.importorskip("torch")

from lowwatt.models.yolox import build_model  # noqa: E402
from lowwatt.recipe import ModelSettings  # noqa: E402
from lowwatt.training.graphs import Graphs  # noqa: E402
from lowwatt.training.optimizer import train_mode  # noqa: E402


def test_a_graph_for_each_shape_and_state_of_the_norms(monkeypatch) -> None:
    alone, captured = threading.Lock(), []

    def capture(module, samples, **options):
        assert alone.locked() and options["pool"] == "pool"
        module(*samples)  # as capturing does, which must leave no trace
        captured.append(tuple(samples[0].shape))
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    torch.manual_seed(0)
    module = build_model(ModelSettings(width=0.125, size=64), 3).train()
    graphs = Graphs(module, contextlib.nullcontext, alone)
    images = torch.rand(2, 1, 64, 64) * 255
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = module(images)
    after = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(before)
    for found, wanted in zip(graphs(images), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert all(torch.equal(value, after[name]) for name, value in module.state_dict().items())  # one step, not two
    graphs(images), graphs(images[:, :, :32, :32]), graphs(images)
    assert captured == [(2, 1, 64, 64), (2, 1, 32, 32)] and not alone.locked()
    train_mode(module, norms=False)
    graphs(images)
    assert captured[2:] == [(2, 1, 64, 64)]
