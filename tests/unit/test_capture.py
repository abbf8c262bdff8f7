"""torch modules as graphs: the same numbers, the user's names, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lowwatt.capture import capture
from lowwatt.errors import ToolError
from lowwatt.ir import onnx_writer
from lowwatt.ir.graph import Graph
from lowwatt.ir.passes import FLOAT_PASSES, prepare_for_quantization, run_passes
from lowwatt.models.yolox import YOLOX, output_names
from lowwatt.quant.executor import TorchExecutor
from lowwatt.recipe import ModelSettings


class Function(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("table", torch.linspace(-1, 1, 4).reshape(1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x, self.table)


def settled(module: nn.Module) -> nn.Module:
    """The module with batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low, high in (
                (part.running_mean, -0.5, 0.5),
                (part.running_var, 0.5, 2),
                (part.weight, 0.5, 1.5),
                (part.bias, -1, 1),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return module.eval()


def run_nhwc(graph: Graph, x: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of a graph for an NCHW input, NCHW where the source has them so."""
    with torch.no_grad():
        found = TorchExecutor(graph)({graph.inputs[0]: x.permute(0, 2, 3, 1).contiguous()})
    nchw = graph.meta["source_layout"]
    return [found[name].permute(0, 3, 1, 2) if name in nchw else found[name] for name in graph.outputs]


def assert_equal(graph: Graph, module: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = module(x)
    wanted = wanted if isinstance(wanted, (tuple, list)) else (wanted,)
    for found, want in zip(run_nhwc(graph, x), wanted, strict=True):
        assert found.shape == want.shape
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings(width=0.125),
        ModelSettings(width=0.125, channels=3, activation="silu", stem="focus", spp="pool"),
    ],
    ids=["fpga", "original"],
)
def test_yolox_keeps_its_numbers(settings: ModelSettings) -> None:
    torch.manual_seed(0)
    module = settled(YOLOX(settings, 3))
    x = torch.rand(1, settings.channels, 64, 64) * 4 - 2
    graph = capture(module, x, output_names=output_names())
    assert_equal(graph, module, x)
    assert run_passes(graph, FLOAT_PASSES)
    assert not any(node.op in ("batch_norm", "identity", "transpose") for node in graph.nodes)
    assert_equal(graph, module, x)
    prepare_for_quantization(graph)
    assert_equal(graph, module, x)
    assert not any(node.op == "relu" for node in graph.nodes)
    assert tuple(graph.outputs) == output_names()


def _changed(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    x.add_(1)
    x *= y
    return x + y


def test_yolox_goes_on_to_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = settled(YOLOX(ModelSettings(width=0.125), 3))
    x = torch.rand(1, 1, 64, 64)
    graph = capture(module, x, output_names=output_names())
    prepare_for_quantization(graph)
    onnx_writer.write(graph, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    with torch.no_grad():
        wanted = module(x)
    for found, want in zip(session.run(list(output_names()), {"x": x.numpy()}), wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), want, rtol=1e-5, atol=1e-5)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "relu6": lambda x, t: F.relu6(x * 9),
    "hardtanh": lambda x, t: F.hardtanh(x, -0.3, 0.4),
    "clamp one-sided": lambda x, t: (x.clamp(min=0.1), x.clamp(max=0.2), x.clamp(min=0)),
    "leaky, prelu": lambda x, t: (F.leaky_relu(x, 0.1), F.prelu(x, t[0, 0, 0])),
    "hard": lambda x, t: (F.hardswish(x * 5), F.hardsigmoid(x * 5)),
    "smooth": lambda x, t: (torch.sigmoid(x), torch.tanh(x), F.silu(x), x.exp(), -x),
    "root": lambda x, t: (torch.sqrt(x + 9), (x + 9) ** 2),
    "scalars": lambda x, t: (2 - x, x / 3, x * 2 + 1, 1 + x),
    "broadcast": lambda x, t: (x * t, x + t[0], x - t.reshape(4, 1, 1), x / (t + 3)),
    "computed constant": lambda x, t: x * (t * 2 + torch.ones(1, 4, 1, 1)),
    "concat": lambda x, t: (torch.cat([x, x * 2], 1), torch.cat([x, x], 2), torch.cat([x, x], -1)),
    "stack": lambda x, t: torch.stack([x[:, 0], x[:, 1]], 1),
    "slice": lambda x, t: (x[:, 1:3], x[:, :, ::2, 1::2], x[..., -3:]),
    "select": lambda x, t: (x[:, 1], x[:, :, -1], x[0]),
    "chunk, split": lambda x, t: (*x.chunk(2, 1), *x.split([1, 3], 1), *x.split(3, 2)),
    "unbind": lambda x, t: x.unbind(1),
    "flatten": lambda x, t: (x.flatten(1), x.reshape(1, 2, 2, 6, 8), x.view(-1)),
    "squeeze": lambda x, t: (x.mean((2, 3), keepdim=True).squeeze(-1), x.unsqueeze(0)),
    "permute": lambda x, t: (x.permute(0, 2, 3, 1), x.permute(0, 3, 1, 2), x.transpose(1, 3)),
    "nhwc and back": lambda x, t: F.relu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + x,
    "softmax": lambda x, t: (x.softmax(1), x.softmax(-1), x.flatten(2).softmax(1)),
    "reduce": lambda x, t: (x.mean(), x.mean(1), x.mean((2, 3)), x.amax(2), x.max(1)[0], x.mean(2, keepdim=True)),
    "pool": lambda x, t: (F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1)),
    "pool, ceil": lambda x, t: (F.max_pool2d(x, 3, 2, ceil_mode=True), F.avg_pool2d(x, 3, 2, 1, True, False)),
    "adaptive": lambda x, t: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 2))),
    "upsample": lambda x, t: (F.interpolate(x, scale_factor=2), F.interpolate(x, size=(12, 12))),
    "bilinear": lambda x, t: (
        F.interpolate(x, scale_factor=2, mode="bilinear"),
        F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    ),
    "pad": lambda x, t: (F.pad(x, (1, 2, 0, 1)), F.pad(x, (1, 1), value=3.0), F.pad(x, (0, 0, 0, 0, 1, 1))),
    "shuffle": lambda x, t: x.view(1, 2, 2, 6, 8).transpose(1, 2).reshape(1, 4, 6, 8),
    "pixel shuffle": lambda x, t: F.pixel_shuffle(x, 2),
    "matmul": lambda x, t: (x @ torch.arange(16.0).reshape(8, 2), F.linear(x.flatten(1), torch.ones(3, 192))),
    "copies": lambda x, t: F.dropout(x.clone().contiguous().to(torch.float32), 0.5, False) * 1.0,
    "in place, as a statement": lambda x, t: _changed(x * 1.0),
    "pixel unshuffle": lambda x, t: F.pixel_unshuffle(x, 2),
    "channel shuffle": lambda x, t: F.channel_shuffle(x, 2) + F.dropout2d(x, 0.5, False),
    "cast": lambda x, t: x.float().narrow(1, 1, 2) * t.double().float().sum(),
    "in place": lambda x, t: (lambda y: F.relu_(y) + y)(x * 1.0),
    "twice": lambda x, t: (lambda y: (y, y, x))(x + 1),
    "same output": lambda x, t: x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators(name: str) -> None:
    torch.manual_seed(0)
    module = Function(FUNCTIONS[name])
    x = torch.rand(1, 4, 6, 8) * 2 - 1
    graph = capture(module, x)
    assert_equal(graph, module, x)
    prepare_for_quantization(graph)
    assert_equal(graph, module, x)


LAYERS: dict[str, nn.Module] = {
    "uneven": nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2), (1, 2)),
    "same": nn.Conv2d(4, 6, 4, padding="same", bias=False),
    "groups": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 12, 3, groups=4),
    "transposed": nn.ConvTranspose2d(4, 3, 3, 2, 1, 1),
    "transposed, plain": nn.ConvTranspose2d(4, 3, 2, 2, bias=False),
    "bare batch norm": nn.BatchNorm2d(4),
    "plain batch norm": nn.BatchNorm2d(4, affine=False),
    "depthwise, batch norm": nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.ReLU6()),
    "transposed, batch norm": nn.Sequential(nn.ConvTranspose2d(4, 5, 2, 2, bias=False), nn.BatchNorm2d(5)),
    "linear": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.LeakyReLU(26 / 256)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    torch.manual_seed(0)
    module = settled(LAYERS[name])
    x = torch.rand(1, 4, 9, 8)
    graph = capture(module, x)
    assert_equal(graph, module, x)
    prepare_for_quantization(graph)
    assert_equal(graph, module, x)
    assert not any(node.op == "batch_norm" for node in graph.nodes)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.shared = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        return self.shared(x), self.shared(x * 2)


def test_names_are_the_users_own() -> None:
    module = settled(Small())
    graph = capture(module, torch.zeros(1, 3, 8, 8), output_names=["first", "second"])
    assert [n.name for n in graph.nodes] == ["stem.0", "stem.1", "stem.2", "first", "mul", "second"]
    assert [n.origin for n in graph.nodes] == ["stem.0", "stem.1", "stem.2", "shared", "mul", "shared"]
    names = {t.name for t in graph.constants()}
    assert {"stem.0.weight", "shared.weight", "shared.bias"} <= names
    np.testing.assert_array_equal(
        graph.tensor("stem.0.weight").data, module.stem[0].weight.detach().permute(0, 2, 3, 1).numpy()
    )
    prepare_for_quantization(graph)
    assert [n.name for n in graph.nodes] == ["stem.0", "first", "mul", "second"]


def test_shared_weights_are_folded_apart() -> None:
    """Two batch norms behind one convolution: each gets its own folded weights."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.a(self.conv(x)), self.b(self.conv(x + 1))

    module, x = settled(Shared()), torch.rand(1, 3, 4, 4)
    graph = capture(module, x)
    run_passes(graph, FLOAT_PASSES)
    assert [n.op for n in graph.nodes if n.op != "add"] == ["conv2d", "conv2d"]
    assert_equal(graph, module, x)


def test_modes_come_back() -> None:
    module = Small()
    module.train()
    module.stem[1].eval()
    capture(module, torch.zeros(1, 3, 8, 8))
    assert module.training and module.shared.training and not module.stem[1].training


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Function(lambda x, t: torch.erf(x))

    def forward(self, x: torch.Tensor) -> object:
        return self.inner(x)


def test_an_unknown_operator_is_named_with_its_place() -> None:
    with pytest.raises(ToolError, match="erf") as caught:
        capture(Unsupported(), torch.zeros(1, 4, 2, 2))
    assert "inner" in caught.value.where
    assert "test_capture.py:" in caught.value.where


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda x, t: x if x.sum() > 0 else -x, "cannot be captured"),
        (lambda x, t: x.repeat(1, 2, 1, 1), "repeat"),
        (lambda x, t: x.expand(3, 4, 4, 4), "repeated"),
        (lambda x, t: F.pad(x, (1, 1, 1, 1), mode="reflect"), "reflect"),
        (lambda x, t: torch.add(x, x, alpha=2), "factor"),
        (lambda x, t: x @ x, "constant matrix"),
        (lambda x, t: F.conv2d(x, x), "weight must be a constant"),
        (lambda x, t: (lambda y: y[:, :1].add_(1) + y[:, :1])(x * 1.0), "view in place"),
        (lambda x, t: 3, "other than tensors"),
        (lambda x, t: F.adaptive_avg_pool2d(x, 3), "evenly"),
        (lambda x, t: F.max_pool2d(x, 2, dilation=2), "dilated"),
    ],
)
def test_refusals_say_why(function: Callable[..., object], part: str) -> None:
    with pytest.raises(ToolError, match=part):
        capture(Function(function), torch.zeros(1, 4, 4, 4))


def test_wrong_number_of_names() -> None:
    with pytest.raises(ToolError, match="1 names for 2"):
        capture(Small(), torch.zeros(1, 3, 8, 8), output_names=["only"])
