"""The network's size must be the published one; its variants must be what the recipe says."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.models import checkpoint  # noqa: E402
from lowwatt.models.yolox import build_model, head_of, output_names, preprocess_of  # noqa: E402
from lowwatt.recipe import ModelSettings, Recipe  # noqa: E402

# docs/training-recipe.md 1: width → millions of parameters, GMAC at 288, 320, 352, 416 (80 classes, one gray channel)
TABLE = {
    0.25: (2.70, 0.735, 0.908, 1.098, 1.534),
    0.3125: (4.21, 1.146, 1.414, 1.711, 2.390),
    0.375: (6.05, 1.646, 2.033, 2.460, 3.435),
    0.5: (10.74, 2.920, 3.605, 4.362, 6.092),
}
ORIGINAL = ModelSettings(width=0.375, channels=3, activation="silu", stem="focus", spp="pool")


def _macs(settings: ModelSettings, side: int) -> int:
    """Multiply-accumulates of all convolutions, counted on the meta device."""
    total = 0

    def count(module, _inputs, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    with torch.device("meta"):
        model = build_model(settings, 80).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        model(torch.zeros(1, settings.channels, side, side))
    return total


def _parameters(settings: ModelSettings) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(settings, 80).parameters())


@pytest.mark.parametrize("width", TABLE)
def test_parameters_and_macs_equal_the_table(width: float) -> None:
    settings = ModelSettings(width=width)
    millions, *gigas = TABLE[width]
    assert _parameters(settings) / 1e6 == pytest.approx(millions, abs=0.005)
    measured = [_macs(settings, side) / 1e9 for side in (288, 320, 352, 416)]
    assert measured == pytest.approx(gigas, abs=0.00055)


def test_original_operators_give_yolox_tiny() -> None:
    assert _parameters(ORIGINAL) / 1e6 == pytest.approx(5.056, abs=0.0005)
    assert _macs(ORIGINAL, 416) / 1e9 == pytest.approx(3.206, abs=0.0005)


def test_spp_costs_what_the_table_says() -> None:
    """docs/training-recipe.md 1: 1.37 M parameters against none; convolutions alone, on 100 cells at 320."""
    dilated, none = ModelSettings(), ModelSettings(spp="none")
    assert _macs(dilated, 320) - _macs(none, 320) == 100 * (384 * 192 + 3 * 9 * 192 * 192 + 4 * 192 * 384)
    assert (_parameters(dilated) - _parameters(none)) / 1e6 == pytest.approx(1.37, abs=0.005)


def test_outputs_are_nine_raw_maps_in_the_named_order() -> None:
    model = build_model(ModelSettings(width=0.125), 3).eval()
    with torch.no_grad():
        shapes = [tuple(out.shape) for out in model(torch.zeros(2, 1, 96, 64))]
    channels = {"cls": 3, "box": 4, "obj": 1}
    expected = [
        (2, channels[kind], 96 // stride, 64 // stride) for stride in (8, 16, 32) for kind in ("cls", "box", "obj")
    ]
    assert shapes == expected
    assert output_names() == tuple(name for triple in head_of(ModelSettings(), 3).outputs for name in triple)


def test_a_fresh_network_sees_little() -> None:
    model = build_model(ModelSettings(width=0.125), 3).eval()
    with torch.no_grad():
        objectness = model(torch.rand(1, 1, 64, 64) * 255)[2].sigmoid()
    assert float(objectness.mean()) == pytest.approx(0.01, rel=0.5)


def _model() -> checkpoint.Model:
    recipe = Recipe(model=ModelSettings(width=0.125, size=64))
    torch.manual_seed(0)
    module = build_model(recipe.model, 2).eval()
    head, preprocess = head_of(recipe.model, 2), preprocess_of(recipe.model)
    return checkpoint.Model(module, recipe, ("a", "b"), (7, 90), head, preprocess, {"ap": 0.5})


def test_checkpoint_round_trip(tmp_path) -> None:
    model = _model()
    checkpoint.save(model, tmp_path / "a.safetensors", half=False)
    checkpoint.save(model, tmp_path / "b.safetensors", half=False)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = checkpoint.load(tmp_path / "a.safetensors")
    assert (loaded.recipe, loaded.labels, loaded.category_ids) == (model.recipe, model.labels, model.category_ids)
    assert (loaded.head, loaded.preprocess, loaded.info) == (model.head, model.preprocess, model.info)
    image = torch.rand(1, 1, 64, 64) * 255
    with torch.no_grad():
        for mine, theirs in zip(model.module(image), loaded.module(image), strict=True):
            assert torch.equal(mine, theirs)


def test_checkpoint_is_half_the_size_in_float16(tmp_path) -> None:
    checkpoint.save(_model(), tmp_path / "half.safetensors")
    checkpoint.save(_model(), tmp_path / "full.safetensors", half=False)
    half, full = ((tmp_path / name).stat().st_size for name in ("half.safetensors", "full.safetensors"))
    assert half < 0.55 * full


def test_damaged_checkpoints_end_in_a_clear_error(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save(_model(), path)
    whole = path.read_bytes()
    for keep in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ToolError):
            checkpoint.load(path)
    path.write_bytes(whole.replace(b'\\"width\\": 0.125', b'\\"width\\": 0.250'))
    with pytest.raises(ToolError, match="cannot read the model"):
        checkpoint.load(path)
    with pytest.raises(ToolError, match="no such model"):
        checkpoint.load(tmp_path / "absent.safetensors")


def test_foreign_safetensors_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ToolError, match="not a model of lowwatt"):
        checkpoint.load(tmp_path / "foreign.safetensors")
