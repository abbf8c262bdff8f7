"""Starting from other weights: Megvii's names, colour stems in gray networks, class rows by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.data.class_maps import read_class_map  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.models import checkpoint  # noqa: E402
from lowwatt.models.start import load_weights  # noqa: E402
from lowwatt.models.yolox import build_model, head_of, preprocess_of  # noqa: E402
from lowwatt.recipe import ModelSettings, Recipe  # noqa: E402

COCO = read_class_map("objects365-coco").labels
ORIGINAL = {"activation": "silu", "stem": "focus", "spp": "pool", "neck_shortcuts": False, "width": 0.125}
COLOUR = ModelSettings(channels=3, **ORIGINAL)

# Prefixes in Megvii's state dict (yolox/models at 0.3.0) of the blocks of conv + bn, and of the plain convolutions.
_CSP = {"dark2.1": 1, "dark3.1": 3, "dark4.1": 3, "dark5.2": 1}
_NECK = {"lateral_conv0": "reduce5", "reduce_conv1": "reduce4", "bu_conv2": "down3", "bu_conv1": "down4"}
_NECK_CSP = {"C3_p4": "up4", "C3_p3": "up3", "C3_n3": "out4", "C3_n4": "out5"}


def _blocks() -> dict[str, str]:
    """Megvii's name of every block of conv + bn, and ours."""
    names = {f"backbone.backbone.dark{n}.0": f"backbone.dark{n}.0" for n in (2, 3, 4, 5)}
    names["backbone.backbone.stem.conv"] = "backbone.stem.conv"
    names |= {f"backbone.backbone.dark5.1.conv{n}": f"backbone.dark5.1.conv{n}" for n in (1, 2)}
    csp = {f"backbone.backbone.{k}": (f"backbone.{k}", n) for k, n in _CSP.items()}
    csp |= {f"backbone.{k}": (f"neck.{ours}", 1) for k, ours in _NECK_CSP.items()}
    for theirs, (ours, depth) in csp.items():
        names |= {f"{theirs}.conv{n}": f"{ours}.conv{n}" for n in (1, 2, 3)}
        names |= {f"{theirs}.m.{k}.conv{n}": f"{ours}.blocks.{k}.conv{n}" for k in range(depth) for n in (1, 2)}
    names |= {f"backbone.{k}": f"neck.{ours}" for k, ours in _NECK.items()}
    for k in range(3):
        names[f"head.stems.{k}"] = f"head.{k}.stem"
        names |= {f"head.cls_convs.{k}.{n}": f"head.{k}.cls_tower.{n}" for n in (0, 1)}
        names |= {f"head.reg_convs.{k}.{n}": f"head.{k}.box_tower.{n}" for n in (0, 1)}
    return names


def _megvii(module) -> dict[str, torch.Tensor]:
    """A module's weights under Megvii's names."""
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    names = {f"{theirs}.{p}": f"{ours}.{p}" for theirs, ours in _blocks().items() for p in parts}
    for k in range(3):
        for theirs, ours in (("cls_preds", "cls"), ("reg_preds", "box"), ("obj_preds", "obj")):
            names |= {f"head.{theirs}.{k}.{p}": f"head.{k}.{ours}.{p}" for p in ("weight", "bias")}
    own = module.state_dict()
    assert set(names.values()) == set(own)
    return {theirs: own[ours] for theirs, ours in names.items()}


def _network(settings: ModelSettings, classes: int, seed: int = 0):
    torch.manual_seed(seed)
    module = build_model(settings, classes).eval()
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_mean", "bn.bias", "cls.bias")):
            tensor.normal_()
    return module


@pytest.fixture(scope="module")
def megvii(tmp_path_factory):
    """A colour network of 80 classes and its file as Megvii's trainer writes it: numpy scalars beside the weights."""
    module = _network(COLOUR, 80)
    path = tmp_path_factory.mktemp("megvii") / "yolox.pth"
    content = {"start_epoch": 300, "model": _megvii(module), "optimizer": None, "best_ap": np.float64(0.4)}
    torch.save(content, path)
    return module, path


def test_megviis_file_gives_the_same_network(megvii) -> None:
    module, path = megvii
    other = _network(COLOUR, 80, seed=1)
    start = load_weights(other, path, COCO)
    assert start.fresh == ()
    assert start.classes == COCO
    image = torch.rand(1, 3, 64, 64) * 255
    assert all(map(torch.equal, module(image), other(image)))


def test_a_gray_network_sees_gray_pictures_as_the_colour_one_did(megvii) -> None:
    module, path = megvii
    gray = _network(ModelSettings(channels=1, **ORIGINAL), 80, seed=1)
    start = load_weights(gray, path, COCO)
    assert start.gray == ("backbone.stem.conv.conv.weight",)
    assert "added up to gray" in str(start)
    image = torch.rand(1, 1, 64, 64) * 255
    for ours, theirs in zip(gray(image), module(image.expand(1, 3, 64, 64)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_person_row_is_kept(megvii) -> None:
    module, path = megvii
    other = _network(COLOUR, 2, seed=1)
    unicorn = other.head[0].cls.bias[0].clone()
    start = load_weights(other, path, ("unicorn", "person"))
    assert start.classes == ("person",)
    assert torch.equal(other.head[1].cls.weight[1], module.head[1].cls.weight[0])
    assert other.head[0].cls.bias[0] == unicorn
    assert start.fresh == ()


def test_our_colour_stem_becomes_gray(tmp_path: Path) -> None:
    colour = _network(ModelSettings(channels=3, width=0.125), 2)
    gray = _network(ModelSettings(width=0.125), 2, seed=1)
    start = load_weights(gray, _save(colour, tmp_path, ("a", "b")), ("a", "b"))
    assert start.gray == ("backbone.stem.0.conv.weight",)
    image = torch.rand(1, 1, 64, 64) * 255
    for ours, theirs in zip(gray(image), colour(image.expand(1, 3, 64, 64)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_classes_of_other_names_stay_fresh(tmp_path: Path) -> None:
    settings = ModelSettings(width=0.125)
    path = _save(_network(settings, 2), tmp_path, ("a", "b"))
    rows = sorted(f"head.{level}.cls.{kind}" for level in range(3) for kind in ("weight", "bias"))
    start = load_weights(_network(settings, 2, seed=1), path, ("c", "d"))
    assert list(start.fresh) == rows
    assert "classes taken: none; fresh: head.0.cls" in str(start)
    assert list(load_weights(_network(settings, 5), path).fresh) == rows
    swapped = _network(settings, 2, seed=1)
    load_weights(swapped, path, ("b", "a"))
    assert torch.equal(swapped.head[0].cls.bias.flip(0), _network(settings, 2).head[0].cls.bias)


def test_another_stem_stays_fresh_and_is_told(megvii) -> None:
    _, path = megvii
    start = load_weights(build_model(ModelSettings(width=0.125, activation="silu"), 80), path, COCO)
    assert start.fresh
    assert "fresh: backbone.dark5.1, backbone.stem.0, backbone.stem.1, backbone.stem.2" in str(start)


def test_a_module_that_nothing_fits_is_refused(megvii) -> None:
    with pytest.raises(ToolError, match="no weight fits"):
        load_weights(torch.nn.Linear(2, 2), megvii[1])


def test_damaged_and_other_files_end_in_a_clear_error(megvii, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    whole = megvii[1].read_bytes()
    for content in (b"", b"abc", whole[:1000], whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ToolError):
            load_weights(_network(COLOUR, 80), path)
    for state in ([1, 2], {}, {"model": {"a": 1}}, {"model": {"head.stems.0.dconv.conv.weight": torch.zeros(1)}}):
        torch.save(state, path)
        with pytest.raises(ToolError, match=r"not a checkpoint|of another network"):
            load_weights(_network(COLOUR, 80), path)
    with pytest.raises(ToolError, match="no such model"):
        load_weights(_network(COLOUR, 80), tmp_path / "absent.pth")


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": _Evil()}}, "evil.pth")
    with pytest.raises(ToolError, match="cannot read the checkpoint"):
        load_weights(_network(COLOUR, 80), "evil.pth")
    assert not Path("evil").exists()


def _save(module, folder: Path, labels: tuple[str, ...]) -> Path:
    settings = ModelSettings(width=0.125, channels=3 if module.backbone.stem[0].conv.in_channels == 3 else 1)
    recipe, ids = Recipe(model=settings), tuple(range(1, len(labels) + 1))
    head, preprocess = head_of(settings, len(labels)), preprocess_of(settings)
    model = checkpoint.Model(module, recipe, labels, ids, head, preprocess)
    checkpoint.save(model, folder / "model.safetensors", half=False)
    return folder / "model.safetensors"
