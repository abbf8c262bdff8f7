"""Quantizers that learn, and fine-tuning on the target's own numbers."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lowwatt.capture import capture  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.ir.interpreter import run  # noqa: E402
from lowwatt.quant import vitis  # noqa: E402
from lowwatt.quant.learned import Grid, learn  # noqa: E402
from lowwatt.quant.oscillation import Freezer, Track  # noqa: E402
from lowwatt.quant.qat import QatModule, prepare  # noqa: E402
from lowwatt.quant.quantizers import LearnedQuantizer, Tqt, make_quantizer, makers  # noqa: E402
from lowwatt.quant.quantizers_research import apot_levels  # noqa: E402
from lowwatt.quant.scheme import NumberFormat  # noqa: E402
from lowwatt.types import QuantParams  # noqa: E402
from small_tasks import Quiet, class_folders, mask_folders, recipe_of  # noqa: E402

RANDOM = np.random.default_rng(5)
SIGNED = NumberFormat(bits=4)
UNSIGNED = NumberFormat(bits=4, signed=False)
FIXED = NumberFormat(bits=4, power_of_two=True, rounding="DPU_ROUND")


def made(name: str, format: NumberFormat, scale: float, kind: str = "activations", zero: int = 0) -> LearnedQuantizer:
    return make_quantizer(name, format, start(format, scale, zero), kind)


def start(format: NumberFormat, scale: float, zero: int = 0) -> QuantParams:
    return QuantParams(scale, zero, format.bits, format.signed, rounding=format.rounding)


def values(count: int = 64, spread: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(RANDOM.normal(0, spread, count).astype(np.float32))


def gradients(quantizer: LearnedQuantizer, x: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient to x, gradient to a parameter) of a weighted sum; the weights are the values' positions."""
    x = x.clone().requires_grad_(True)
    (quantizer(x) * weights_of(x)).sum().backward()
    grad, of_parameter = x.grad, getattr(quantizer, name).grad
    assert grad is not None and of_parameter is not None
    return grad, of_parameter


def weights_of(x: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-1, 2, x.numel())


# -- the fast function ---------------------------------------------------------------------------------------------


def learned(x: torch.Tensor, scale: torch.Tensor, zero: float, low: int, high: int, rounding: str) -> torch.Tensor:
    """Fake-quantized `x` whose scale learns itself."""
    value = float(scale.detach()) if scale.numel() == 1 else scale.detach()
    return learn(x, scale, Grid(value, zero, low, high, rounding))


@pytest.mark.parametrize("rounding", ["DPU_ROUND", "STD_ROUND", "PY3_ROUND"])
def test_fake_quantization_is_straight_through_and_exact_to_the_scale(rounding: str) -> None:
    x, scale = values().requires_grad_(True), torch.tensor(0.3, requires_grad=True)
    y = learned(x, scale, 2, -8, 7, rounding)
    (y * weights_of(x)).sum().backward()
    steps = (x / scale).detach()
    rounded = {"DPU_ROUND": torch.floor(steps + 0.5), "PY3_ROUND": steps.round()}.get(
        rounding, torch.copysign(torch.floor(steps.abs() + 0.5), steps)
    )
    inside = (rounded >= -10) & (rounded <= 5)
    slope = torch.where(inside, rounded - steps, rounded.clamp(-10, 5))
    torch.testing.assert_close(y, rounded.clamp(-10, 5) * 0.3)
    assert x.grad is not None and torch.equal(x.grad, weights_of(x) * inside)
    torch.testing.assert_close(scale.grad, (slope * weights_of(x)).sum(), rtol=1e-4, atol=1e-5)


def test_gradient_to_a_scale_a_channel_is_each_channels_own() -> None:
    x, scale = values(24).reshape(3, 8), torch.tensor([[0.1], [0.3], [0.5]], requires_grad=True)
    learned(x, scale, 0, -8, 7, "PY3_ROUND").sum().backward()
    for row in range(3):
        one = torch.tensor(float(scale[row].detach()), requires_grad=True)
        learned(x[row], one, 0, -8, 7, "PY3_ROUND").sum().backward()
        torch.testing.assert_close(scale.grad[row, 0], one.grad, rtol=1e-4, atol=1e-5)


def test_clipped_part_agrees_with_finite_differences() -> None:
    """Far outside, where rounding plays no part, the straight-through gradient is the true one."""
    x = torch.tensor([9.0, -9.0, 20.0])

    def total(s: float) -> float:
        return float(Grid(s, 0, -8, 7, "DPU_ROUND").snap(x).sum())

    scale = torch.tensor(0.4, requires_grad=True)
    learn(x, scale, Grid(0.4, 0, -8, 7, "DPU_ROUND")).sum().backward()
    assert float(scale.grad) == pytest.approx((total(0.41) - total(0.39)) / 0.02, rel=1e-3)


# -- each quantizer against its paper ------------------------------------------------------------------------------


def test_lsq_forward_and_gradients() -> None:
    quantizer, x = made("lsq", SIGNED, 0.37), values().reshape(1, -1)
    grad, of_scale = gradients(quantizer, x, "scale")
    v = x / 0.37
    torch.testing.assert_close(quantizer(x).detach(), v.clamp(-8, 7).round() * 0.37)
    inside = (v > -8) & (v < 7)
    slope = torch.where(inside, v.round() - v, v.clamp(-8, 7))
    assert torch.equal(grad, weights_of(x) * inside)
    torch.testing.assert_close(of_scale, (slope * weights_of(x)).sum() / math.sqrt(64 * 7), rtol=1e-4, atol=1e-5)


def test_lsq_plus_learns_where_the_range_lies() -> None:
    format = NumberFormat(bits=4, signed=False, symmetric=False)
    quantizer, x = made("lsq+", format, 0.25, zero=5), values()
    beta = -5 * 0.25
    expected = ((x - beta) / 0.25).clamp(0, 15).round() * 0.25 + beta
    torch.testing.assert_close(quantizer(x).detach(), expected)
    grad, of_offset = gradients(quantizer, x, "offset")
    outside = (x <= beta) | (x >= beta + 15 * 0.25)
    assert torch.equal(grad == 0, outside | (weights_of(x) == 0))
    factor = 1 / math.sqrt(64 // 64 * 15)  # one feature an image
    torch.testing.assert_close(of_offset, (weights_of(x) * outside).sum() * factor, rtol=1e-4, atol=1e-5)
    assert quantizer.export().zero_point == 5


def test_tqt_takes_the_ceiling_and_learns_in_the_log() -> None:
    quantizer, x = made("tqt", FIXED, 0.25), values()
    assert isinstance(quantizer, Tqt)
    with torch.no_grad():
        quantizer.log2_threshold.fill_(0.3)
    scale = 2.0 ** math.ceil(0.3) / 2**3  # arXiv 1903.08066, eq. 3
    steps = torch.floor(x / scale + 0.5)
    assert torch.equal(quantizer(x).detach(), steps.clamp(-8, 7) * scale)
    _, of_threshold = gradients(quantizer, x, "log2_threshold")
    inside = (steps >= -8) & (steps <= 7)
    slope = scale * math.log(2) * torch.where(inside, steps - x / scale, steps.clamp(-8, 7))  # eq. 7
    torch.testing.assert_close(of_threshold, (slope * weights_of(x)).sum(), rtol=1e-4, atol=1e-5)
    assert quantizer.export().scale == scale


def test_tqt_starts_at_the_calibrated_fix_point() -> None:
    for point in (-3, 0, 7):
        quantizer = make_quantizer("tqt", NumberFormat(power_of_two=True), QuantParams.power_of_two(point), "weights")
        assert quantizer.export().fix_point == point


def test_pact_passes_gradient_to_the_clip_only_where_it_clips() -> None:
    quantizer, x = made("pact", UNSIGNED, 0.2), values()
    alpha = 3.0
    torch.testing.assert_close(quantizer(x).detach(), torch.round(x.clamp(0, alpha) / 0.2) * 0.2)
    grad, of_alpha = gradients(quantizer, x, "alpha")
    torch.testing.assert_close(of_alpha, (weights_of(x) * (x > alpha)).sum())
    assert torch.equal(grad == 0, (x < 0) | (x > alpha) | (weights_of(x) == 0))


def test_dsq_rounds_forward_and_is_soft_backward() -> None:
    quantizer, x = made("dsq", SIGNED, 0.5), values()
    torch.testing.assert_close(quantizer(x).detach(), (x / 0.5).clamp(-8, 7).round() * 0.5)
    grad, _ = gradients(quantizer, x, "scale")
    inside = (x > -4) & (x < 3.5)
    r = x / 0.5 - torch.floor(x / 0.5) - 0.5
    k = math.log(2 / 0.4 - 1)
    slope = 0.5 * k * (1 - torch.tanh(k * r) ** 2) / (1 - 0.4)
    torch.testing.assert_close(grad[inside], (slope * weights_of(x))[inside], rtol=1e-4, atol=1e-6)


def test_dorefa_bends_weights_by_their_tanh() -> None:
    quantizer, x = made("dorefa", SIGNED, 1 / 7, "weights"), values(spread=0.5)
    bent = torch.tanh(x) / torch.tanh(x).abs().max()
    torch.testing.assert_close(quantizer(x), torch.round(bent * 7) / 7)
    clipped = made("dorefa", UNSIGNED, 1 / 15)
    torch.testing.assert_close(clipped(x), torch.round(x.clamp(0, 1) * 15) / 15)


def test_qil_prunes_below_and_clips_above_its_interval() -> None:
    quantizer, x = made("qil", SIGNED, 1 / 7, "weights"), values(spread=0.6)
    with torch.no_grad():
        quantizer.centre.fill_(0.5), quantizer.half_width.fill_(0.3), quantizer.gamma.fill_(1.5)
    share = ((x.abs() - 0.2) / 0.6).clamp(0, 1) ** 1.5
    torch.testing.assert_close(quantizer(x), torch.round(x.sign() * share * 7) / 7, atol=1e-5, rtol=0)
    for name in ("centre", "half_width", "gamma"):
        assert float(gradients(quantizer, x, name)[1]) != 0


def test_apot_has_the_papers_levels_and_no_integers() -> None:
    terms = [[0, 1, 1 / 4, 1 / 16], [0, 1 / 2, 1 / 8, 1 / 32]]
    expected = sorted({(a + b) / 1.5 for a in terms[0] for b in terms[1]})
    torch.testing.assert_close(apot_levels(4), torch.tensor(expected))
    quantizer, x = made("apot", UNSIGNED, 0.1), values().abs()
    distance = (x[:, None].clamp(max=1.5) - 1.5 * torch.tensor(expected)).abs().min(1).values
    torch.testing.assert_close((quantizer(x).detach() - x.clamp(max=1.5)).abs(), distance)
    with pytest.raises(ToolError, match="APoT cannot be exported"):
        quantizer.export()


@pytest.mark.parametrize("kind", ["weights", "activations"])
@pytest.mark.parametrize("name", ["lsq", "lsq+", "tqt", "pact", "dsq", "dorefa", "qil"])
def test_the_exported_format_gives_the_trained_values(name: str, kind: str) -> None:
    quantizer, x = made(name, SIGNED, 0.21, kind), values()
    quant = quantizer.export()
    moved = quantizer.constant(x).detach().numpy()
    integers = np.clip(np.rint(moved.astype(np.float64) / quant.scale), quant.qmin, quant.qmax)
    torch.testing.assert_close(quantizer(x).detach(), torch.from_numpy(quant.dequantize(integers)))


@pytest.mark.parametrize("name", ["lsq", "lsq+", "tqt", "pact", "dsq", "dorefa", "apot"])
def test_relu_in_front_is_the_same_as_relu_inside(name: str) -> None:
    quantizer, x = made(name, SIGNED, 0.21), values()
    torch.testing.assert_close(quantizer(x, True).detach(), quantizer(torch.relu(x)).detach())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ToolError, match="unknown quantizer"):
        made("lqs", SIGNED, 0.1)
    with pytest.raises(ToolError, match="scales of any size"):
        made("pact", FIXED, 0.25)
    with pytest.raises(ToolError, match="one threshold"):
        made("tqt", replace_symmetric(), 0.25, zero=3)
    assert set(makers()) == {"lsq", "lsq+", "tqt", "pact", "dsq", "dorefa", "qil", "apot"}


def replace_symmetric() -> NumberFormat:
    return NumberFormat(bits=4, signed=False, symmetric=False)


# -- the module ----------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Convolutions with and without batch norm, bias and activation; a depthwise one; joins, a pool, a resize."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU())
        self.point = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2.0)
        self.end = nn.Conv2d(16, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = torch.relu(self.point(self.depth(x)) + x)
        return self.end(torch.cat((self.up(self.pool(y)), x), 1))


def network(seed: int = 0) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Network()
    for _ in range(30):
        made(pixels(4))
    return made.eval()


def pixels(count: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.integers(0, 256, (count, 1, 16, 16)).astype(np.float32))


def qat_of(module: nn.Module, scheme: str = "vitis", method: str = "tqt") -> QatModule:
    graph = capture(module, torch.zeros(1, 1, 16, 16), output_names=["y"])
    graph.rename(graph.inputs[0], "images")
    batches = [pixels(4).permute(0, 2, 3, 1).numpy() for _ in range(2)]
    return QatModule(module, prepare(graph, batches, scheme), method)


def train(module: QatModule, steps: int, rate: float = 1e-3, goal: torch.Tensor | None = None) -> list[float]:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 1, 16, 16)).astype(np.float32))
    goal = torch.sin(torch.arange(4 * 3 * 64).float()).reshape(4, 3, 8, 8) if goal is None else goal
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate)
    losses = []
    module.train()
    for _ in range(steps):
        loss = (module(images) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_every_layer_is_found_and_every_name_is_the_users() -> None:
    original = network()
    keys = list(original.state_dict())
    module = qat_of(copy.deepcopy(original))
    assert module.fixed == {}
    train(module, 3)
    state = module.float_state()
    assert list(state) == keys
    fresh = Network()
    fresh.load_state_dict(state, strict=True)
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), state.values(), strict=True))
    assert not torch.equal(state["depth.0.weight"], original.state_dict()["depth.0.weight"])
    assert set(module.state_dict()) - set(keys) == {n for n in module.state_dict() if n.startswith("quantizers.")}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("method", ["tqt", "lsq"])
def test_the_trained_network_is_the_exported_one(method: str, live: bool) -> None:
    module = qat_of(network(), method=method)
    module.set_live(live)
    losses = train(module, 25, 5e-3)
    assert losses[-1] < losses[0]
    module.eval()
    images = pixels(3)
    with torch.no_grad():
        fake = module(images).permute(0, 2, 3, 1).numpy()
    report = module.export()
    assert vitis.violations(report.quantized) == []
    integers = run(report.quantized, {"images": images.permute(0, 2, 3, 1).numpy()})
    quant = report.quantized.tensor("y").quant
    assert quant is not None and np.array_equal(quant.dequantize(integers["y"]), fake)


@pytest.mark.parametrize("scheme", ["tensorrt", "openvino", "onnxruntime", "academic", "snpe"])
def test_other_schemes_train_and_export(scheme: str) -> None:
    module = qat_of(network(), scheme, "lsq")
    losses = train(module, 25, 2e-3)
    assert losses[-1] < losses[0]
    assert module.export().quantized.has_integers


@pytest.mark.parametrize("method", ["lsq+", "pact", "dsq", "dorefa", "qil", "apot"])
def test_research_quantizers_train(method: str) -> None:
    losses = train(qat_of(network(), "tensorrt", method), 25, 2e-3)
    assert losses[-1] < losses[0]


def test_live_batch_norms_are_those_of_the_float_network() -> None:
    """At 16 bits next to nothing is rounded: outputs and statistics follow the float network in training mode."""
    from lowwatt.quant.scheme import load_scheme

    original, images = network(), pixels(4)
    graph = capture(original, torch.zeros(1, 1, 16, 16), output_names=["y"])
    fine = load_scheme("tensorrt").with_bits(16, 16)
    prepared = prepare(graph, [images.permute(0, 2, 3, 1).numpy()], fine, "minmax")
    module = QatModule(copy.deepcopy(original), prepared, "lsq")
    module.set_live(True)
    with torch.no_grad():
        for name, quantizer in module.by_slot.items():
            if not name.endswith("weight"):  # statistics of one batch make other ranges
                quantizer.scale.mul_(4)
    found, expected = module.train()(images), original.train()(images)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    for name, value in original.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-3, atol=1e-3)


def test_legal_fix_points_are_trained_with() -> None:
    module = qat_of(network())
    with torch.no_grad():
        for name, quantizer in module.by_slot.items():
            if name.endswith("weight") or name == "y":
                quantizer.log2_threshold.add_(-9 if name == "y" else 9)
    module.eval()
    images = pixels(1)
    with torch.no_grad():
        fake = module(images).permute(0, 2, 3, 1).numpy()
    quantized = module.export().quantized
    assert vitis.violations(quantized) == []
    integers = run(quantized, {"images": images.permute(0, 2, 3, 1).numpy()})["y"]
    assert np.array_equal(quantized.tensor("y").quant.dequantize(integers), fake)  # type: ignore[union-attr]


def test_a_part_named_like_ours_is_refused() -> None:
    module = network()
    module.register_module("watch", nn.Conv2d(1, 1, 1))
    with pytest.raises(ToolError, match="name of QatModule"):
        qat_of(module)


# -- oscillation ---------------------------------------------------------------------------------------------------


def test_a_flipping_weight_is_caught_and_a_moving_one_is_not() -> None:
    track = Track.of(torch.zeros(2))
    for step in range(60):
        track.update(torch.tensor([float(step % 2), step // 10.0]), 0.2, 0.05)
    assert track.frozen.tolist() == [True, False]
    assert float(track.held[0]) in (0.0, 1.0)


def test_frozen_weights_stay_while_the_rest_learns() -> None:
    module = qat_of(network())
    freezer = Freezer(module, 0.02, 0.1)
    images = pixels(4)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    history: list[torch.Tensor] = []
    for _ in range(60):
        optimizer.zero_grad()
        (
            module(images) - torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        ).square().mean().backward()
        for parameter in module.parameters():  # shaken, so that weights near a boundary flip
            if parameter.grad is not None and parameter.ndim > 1:
                parameter.grad.add_(torch.randn_like(parameter) * 0.2)
        optimizer.step()
        freezer.update()
        history.append({n: t.before.clone() for n, t in freezer.tracks.items()})  # type: ignore[arg-type]
    assert freezer.frozen > 0
    fresh = Freezer(module, 0.02, 0.1)
    fresh.update()
    for name, track in freezer.tracks.items():
        assert torch.equal(fresh.tracks[name].before[track.frozen], track.held[track.frozen])


def test_histories_survive_their_state_dict() -> None:
    freezer = Freezer(qat_of(network()), 0.1, 0.1)
    freezer.update()
    other = Freezer(freezer.module, 0.1, 0.1)
    other.load_state_dict(freezer.state_dict())
    assert all(torch.equal(other.tracks[n].before, t.before) for n, t in freezer.tracks.items())


# -- fine-tuning a detector ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    from lowwatt.data import open_data
    from lowwatt.data.sample import make_sample
    from lowwatt.recipe import load_recipe

    folder = tmp_path_factory.mktemp("qat") / "sample"
    make_sample(folder, 24, 8, 64, 0)
    overrides = [f"data.root={folder}", "model.width=0.125", "model.size=64", "train.batch=8", "qat.images=16"]
    recipe = load_recipe(None, [*overrides, "qat.epochs=2", "qat.lr=0.002", "train.ema_ramp=5", "qat.freeze=0.01"])
    return recipe, tuple(open_data(recipe.data))


def detector(recipe, data):  # type: ignore[no-untyped-def]
    from lowwatt.models.checkpoint import Model
    from lowwatt.models.yolox import build_model, head_of, preprocess_of

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build_model(recipe.model, len(data.labels)).eval()
    head = head_of(recipe.model, len(data.labels))
    return Model(module, recipe, data.labels, data.category_ids, head, preprocess_of(recipe.model))


def test_an_interrupted_run_ends_as_an_uninterrupted_one(sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from lowwatt.models.checkpoint import load
    from lowwatt.quant.qat_training import qat_recipe, qat_trainer, train_qat
    from lowwatt.training.log import Lines

    recipe, data = sample
    model = detector(recipe, data[1])
    whole = train_qat(model, tmp_path / "whole", data=data)
    half = qat_trainer(model, qat_recipe(recipe, recipe.qat), *data, tmp_path / "half", Lines())
    half._epoch()
    resumed = train_qat(model, tmp_path / "half", data=data, resume=True)
    for name, value in whole.model.module.state_dict().items():
        assert torch.equal(value, resumed.model.module.state_dict()[name]), name
    assert (tmp_path / "whole/quantized.lwg").read_bytes() == (tmp_path / "half/quantized.lwg").read_bytes()
    loaded = load(tmp_path / "whole/model.safetensors")
    assert list(loaded.module.state_dict()) == list(model.module.state_dict())
    for name, tensor in whole.report.quantized.tensors.items():
        assert tensor.quant == resumed.report.quantized.tensor(name).quant


@pytest.mark.parametrize("task, folders", [("classification", class_folders), ("segmentation", mask_folders)])
def test_other_tasks_are_trained_on_integers_too(task: str, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """By their own loss and metric; the kept weights are a float model that the next command takes."""
    from lowwatt.loading import load
    from lowwatt.training import train
    from lowwatt.verbs.qat import QatJob, qat_file

    root = folders(tmp_path / "data")
    train(recipe_of(task, root), tmp_path / "float", progress=Quiet())
    job = QatJob(tmp_path / "float/model.safetensors", str(root), tmp_path / "qat", ["qat.epochs=2", "qat.lr=0.001"])
    found = qat_file(job, Quiet, lambda line: None)
    assert found["measure"] == {"classification": "top-1", "segmentation": "mIoU"}[task]
    assert list(found["accuracy"]) == ["FP32", "fake-quant", "integer"] and not found["verdict"]
    assert found["accuracy"]["integer"] == pytest.approx(found["accuracy"]["fake-quant"], abs=0.1)
    before, after = load(job.file), load(tmp_path / "qat/model.safetensors")
    names = list(before.module.state_dict())
    assert list(after.module.state_dict()) == names and after.labels == before.labels
    assert any(not torch.equal(before.module.state_dict()[n], after.module.state_dict()[n]) for n in names)
    assert load(tmp_path / "qat/quantized.lwg").has_integers


def test_distance_to_the_teacher_counts(sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from lowwatt.quant.qat_training import qat_recipe, qat_trainer
    from lowwatt.training.log import Lines

    recipe, data = sample
    model = detector(recipe, data[1])
    distances = []
    for settings in ({"distill": 0.0}, {"distill": 1.0}, {"distill": 1.0, "features": True}):
        qat = recipe.qat.model_copy(update=settings)
        trainer = qat_trainer(model, qat_recipe(recipe, qat), *data, tmp_path, Lines())
        trainer.task.begin_epoch(trainer.module, 0)
        losses = trainer._backward(next(iter(trainer.loader.epoch(0, False))), True)
        parts = sum(float(losses[name].detach()) for name in trainer.task.parts)
        distances.append(round(float(losses["loss"].detach()) - parts, 4))
    assert 0 == distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("method", ["tqt", "lsq"])
def test_weights_folded_together_have_the_gradients_of_each_alone(method: str) -> None:
    """The written-out backward against autograd's own, layer by layer."""
    module = qat_of(network(), method=method)
    constants = module._qat.executor.folder(False)
    weights = {layer.node.inputs[1]: layer for layer in module.layers}
    sum((constants[n] * weights_of(constants[n]).reshape(constants[n].shape)).sum() for n in weights).backward()
    together = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    for name, layer in weights.items():
        value = module.by_slot[name](layer.folded()[0])
        torch.testing.assert_close(value, constants[name])
        (value * weights_of(value).reshape(value.shape)).sum().backward()
    alone = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert set(together) == set(alone)
    for name, grad in alone.items():
        torch.testing.assert_close(together[name], grad, rtol=1e-3, atol=1e-4)
