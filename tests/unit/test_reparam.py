"""Levers of the network: re-parameterised blocks fold exactly, shared towers share and survive the road."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from lowwatt.capture import capture  # noqa: E402
from lowwatt.models import checkpoint  # noqa: E402
from lowwatt.models.reparam import RepBlock, expand, folded  # noqa: E402
from lowwatt.models.yolox import ConvBlock, build_model, head_of, output_names, preprocess_of  # noqa: E402
from lowwatt.recipe import ModelSettings, Recipe  # noqa: E402
from lowwatt.training.ema import Ema  # noqa: E402

TINY = {"width": 0.125, "size": 64}


def _trained(settings: ModelSettings, steps: int = 4) -> torch.nn.Module:
    """A network, in its training form, after some steps of moving weights and statistics."""
    torch.manual_seed(0)
    module = build_model(settings, 2)
    if settings.reparam:
        expand(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
    for _ in range(steps):
        loss = sum(out.square().mean() for out in module(torch.rand(4, 1, 64, 64) * 255))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


def _distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    x = torch.rand(2, 1, 64, 64) * 255
    with torch.inference_mode():
        return max(float((p - q).abs().max() / p.abs().max()) for p, q in zip(a(x), b(x), strict=True))


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 12, 1), (8, 8, 2)])
def test_a_block_folds_exactly(inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(1)
    block = RepBlock.of(ConvBlock(inputs, outputs, 3, stride)).double()
    for norm in (block.bn, block.norm):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    block.eval()
    x = torch.randn(2, inputs, 9, 9, dtype=torch.float64)
    plain = block.folded()
    assert type(plain) is ConvBlock
    assert torch.allclose(plain(x), block(x), atol=1e-12)
    assert block.shortcut == (inputs == outputs and stride == 1)


def test_a_folded_network_gives_the_same_and_leaves_its_source() -> None:
    module = _trained(ModelSettings(**TINY, reparam=True))
    assert sum(isinstance(m, RepBlock) for m in module.modules()) > 20
    before = {name: value.clone() for name, value in module.state_dict().items()}
    plain = folded(module)
    assert set(plain.state_dict()) == set(build_model(ModelSettings(**TINY), 2).state_dict())
    assert _distance(module, plain) < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert folded(plain) is plain


@pytest.mark.parametrize("reparam", [False, True])
@pytest.mark.parametrize("head", ["separate", "shared"])
def test_a_checkpoint_holds_the_network_as_it_runs(tmp_path: Path, head: str, reparam: bool) -> None:
    recipe = Recipe.model_validate({"model": {**TINY, "head": head, "reparam": reparam}})
    module = _trained(recipe.model)
    about = (("a", "b"), (1, 2), head_of(recipe.model, 2), preprocess_of(recipe.model))
    checkpoint.save(checkpoint.Model(module, recipe, *about), tmp_path / "m.safetensors", half=False)
    read = checkpoint.load(tmp_path / "m.safetensors").module
    assert _distance(module, read) < 1e-5
    assert not any(isinstance(m, RepBlock) for m in read.modules())
    graph = capture(read, torch.zeros(1, 1, 64, 64), output_names=output_names())
    assert len(graph.outputs) == 9


def test_shared_towers_have_one_weight_and_their_own_norms() -> None:
    module = _trained(ModelSettings(**TINY, head="shared"))
    first, second, third = module.head
    for tower in ("cls_tower", "box_tower"):
        for blocks in zip(getattr(first, tower), getattr(second, tower), getattr(third, tower), strict=True):
            assert len({id(block.conv) for block in blocks}) == 1
            assert len({id(block.bn) for block in blocks}) == 3
            assert not torch.equal(blocks[0].bn.running_mean, blocks[1].bn.running_mean)
    separate = build_model(ModelSettings(**TINY), 2)
    saved = sum(p.numel() for p in separate.parameters()) - sum(p.numel() for p in module.parameters())
    assert saved == 2 * 4 * 9 * 32 * 32  # two strides, four convolutions of 32 channels


def test_shared_weights_are_averaged_once_a_step() -> None:
    module = build_model(ModelSettings(**TINY, head="shared"), 2)
    average = Ema(module, 0.5, 1e-9)
    old = copy.deepcopy(average.module.head[2].cls_tower[0].conv.weight)
    with torch.no_grad():
        module.head[0].cls_tower[0].conv.weight += 1
    average.update(module)
    assert torch.allclose(average.module.head[2].cls_tower[0].conv.weight, old + 0.5, atol=1e-6)


def test_shared_towers_stay_plain_where_the_rest_is_expanded() -> None:
    module = build_model(ModelSettings(**TINY, head="shared"), 2)
    expand(module)
    assert not any(isinstance(m, RepBlock) for m in module.head.modules())
    assert any(isinstance(m, RepBlock) for m in module.neck.modules())
