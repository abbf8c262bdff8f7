"""Machine descriptions: what ships, fingerprints, a user's own file, and errors."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from lowwatt.errors import ToolError
from lowwatt.targets import Target, load_target, target_names

BOARDS = {"ultra96v2-lpcv", "ultra96v1", "zcu102", "zcu104", "kv260", "kv260-vai25", "kv260-vai3", "zcu104-dnndk"}


def test_the_boards_ship_with_the_package() -> None:
    assert set(target_names()) >= BOARDS


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_board_says_where_its_figures_come_from(name: str) -> None:
    target = load_target(name)
    assert target.name == name and target.description
    for text in (
        target.provenance,
        target.costs.provenance,
        target.host.provenance,
        target.energy.provenance,
        target.dram.provenance,
    ):
        assert len(text) > 20


@pytest.mark.parametrize(
    "name, fingerprint",
    [
        ("ultra96v2-lpcv", 0x1000020F2014405),  # from the winner's dpu.hwh
        ("ultra96v1", 0x1000020F2014404),  # docs/dpu.md 1.3
        ("zcu102", 0x1000020F6014407),  # Vitis AI 1.x to 2.0
        ("zcu104", 0x1000020F6014407),
        ("zcu104-dnndk", 0x1000020F7014407),
        ("kv260", 0x1000020F6014407),
        ("kv260-vai25", 0x101000016010407),
        ("kv260-vai3", 0x101000056010407),
        ("zcu102-vai3", 0x101000056010407),
    ],
)
def test_fingerprints_equal_the_published_ones(name: str, fingerprint: int) -> None:
    assert load_target(name).fingerprint == fingerprint


def test_peak_of_the_lpcv_board() -> None:
    assert load_target("ultra96v2-lpcv").peak_gops == pytest.approx(345.6)


def test_json_round_trip() -> None:
    for name in target_names():
        target = load_target(name)
        assert Target.from_json(target.to_json()) == target


def test_json_of_older_programs_is_read() -> None:
    """Programs written before machines had a memory and ISA1's options."""
    target = load_target("ultra96v2-lpcv")
    values = target.to_json()
    del values["dram"], values["options"]["save_argmax"], values["options"]["depthwise_leaky_relu"]
    older = Target.from_json(values)
    assert dataclasses.replace(older, dram=target.dram) == target


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_banks_are_numbered_without_a_gap(name: str) -> None:
    target = load_target(name)
    assert list(target.image_banks) == list(range(target.image_groups * target.array.pixels))
    assert target.weight_banks[0] == target.image_banks[-1] + 1
    assert len(target.weight_banks) == target.array.output_channels
    assert target.depthwise_bank == target.weight_banks[-1] + 1
    assert target.bias_bank == target.depthwise_bank + 1


def test_banks_of_the_programs_that_were_decoded() -> None:
    """docs/dpu.md 8.3; three groups and no depthwise weights: the vendor's MAX and MIN prototxts."""
    for name, weights, depthwise, bias in (
        ("kv260", 16, 32, 33),
        ("ultra96v2-lpcv", 16, 28, 29),
        ("DPUCZDX8G_ISA1_B512", 8, 16, 17),
        ("DPUCZDX8G_ISA0_B4096_MAX", 24, 40, 41),
        ("DPUCZDX8G_ISA0_B512_MIN", 8, None, 16),
    ):
        target = load_target(name)
        assert (target.weight_banks[0], target.depthwise_bank, target.bias_bank) == (weights, depthwise, bias)
    assert load_target("ultra96v2-lpcv").bank_bytes == 24_576


def test_own_file_on_a_known_base(tmp_path: Path) -> None:
    file = tmp_path / "fast.yaml"
    file.write_text("base: ultra96v2-lpcv\nname: fast\nclock_mhz: 300\noptions: {augmentation: true}\n")
    target = load_target(file)
    assert target.name == "fast" and target.clock_mhz == 300
    assert target.options.augmentation and target.options.leaky_relu
    assert target.costs == load_target("ultra96v2-lpcv").costs


@pytest.mark.parametrize("core, word", [("0x101000056010403", 0x101000016010403), ("ISA1_B1152", 0x101000016010203)])
def test_own_file_with_another_core(tmp_path: Path, core: str, word: int) -> None:
    file, name = tmp_path / "own.yaml", core if core.startswith("0x") else f"DPUCZDX8G_{core}"
    file.write_text(f"base: zcu102\nname: own\ncore: {name}\noptions: {{save_argmax: false}}\n")
    target = load_target(file)
    assert target.array.name == "B1152" and target.isa == 1 and target.clock_mhz == 281
    assert target.fingerprint == word  # what is said beside the core wins


def test_own_file_without_a_name_does_not_go_by_its_bases(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: kv260\ncore: DPUCZDX8G_ISA0_B512_MAX\n")
    assert load_target(file).name == "mine.yaml"


def _bomb(key: str) -> str:
    """A value that is ten lists deep, each of ten times the one before: small as references, huge once written out."""
    lists = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'x'] * 10)}]\n" for n in range(10)]
    return "base: kv260\n" + "".join(lists) + f"{key}: *l9\n"


def _error(tmp_path: Path, text: str) -> ToolError:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ToolError) as error:
        load_target(file)
    return error.value


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ToolError) as error:
        load_target("ultra96v2")
    assert "ultra96v2-lpcv" in error.value.hint


@pytest.mark.parametrize(
    "text, word",
    [
        ("base: kv260\nclok_mhz: 1\n", "clock_mhz"),
        ("base: kv260\ncosts: {load_bandwidth: 3}\n", "load"),
        ("base: kv261\n", "kv260"),
        ("base: kv260\nclock_mhz: -3\n", "clock_mhz"),
        ("base: kv260\nclock_mhz: .nan\n", "clock_mhz"),
        ("base: kv260\nimage_groups: 9\n", "image_groups"),
        ("name: x\n", "description"),
        ("- a list\n", "mapping"),
        ("{: [", "cannot read"),
        ("base: kv260\narray: 3\n", "array"),
        ("base: kv260\narray: B4069\n", "B4096"),
        ("base: kv260\ncore: DPUCZDX8G_ISA1_B4095\n", "B4096"),
        ("base: kv260\ncore: 0x2000000000000\n", "family"),
        ("base: kv260\ncore: [1]\n", "a name is expected"),
        ("base: kv260\ncore: true\n", "a name is expected"),
        ("base: {kv260: 1}\n", "a name is expected"),
        ("base: kv260\ncore: 0x10000000000000000\n", "not a number"),
        (_bomb("core"), "a name is expected"),
        (_bomb("array"), "own.yaml"),
        (_bomb("clock_mhz"), "own.yaml"),
        ("base: kv260\ndram: {peak_gb_s: .inf}\n", "dram.peak_gb_s"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, word: str) -> None:
    error = _error(tmp_path, text)
    assert "own.yaml" in error.where and word in str(error)


def test_without_yaml_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board: what names itself in full still opens, a name says what it needs."""
    known = load_target("kv260").to_json()
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setattr("lowwatt.targets.load.target_names", target_names.__wrapped__)
    with pytest.raises(ToolError, match="unknown target kv260") as error:
        load_target("kv260")
    assert "PyYAML" in error.value.why and Target.from_json(known).name == "kv260"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        load_target(tmp_path / "none.yaml")


def test_an_array_of_ones_own_has_no_fingerprint() -> None:
    target = load_target("kv260")
    odd = dataclasses.replace(target, array=dataclasses.replace(target.array, name="B9999"))
    with pytest.raises(ToolError):
        _ = odd.fingerprint
