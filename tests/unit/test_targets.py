"""Machine descriptions: what ships, fingerprints, a user's own file, and errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lowwatt.errors import ToolError
from lowwatt.targets import Target, load_target, target_names

BOARDS = {"ultra96v2-lpcv", "ultra96v1", "zcu102", "zcu104", "kv260"}


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
    ):
        assert len(text) > 20


@pytest.mark.parametrize(
    "name, fingerprint",
    [
        ("ultra96v2-lpcv", 0x1000020F2014405),  # from the winner's dpu.hwh
        ("ultra96v1", 0x1000020F2014404),  # docs/dpu.md 1.3
        ("zcu102", 0x1000020F6014407),  # Vitis AI 1.x to 2.0
        ("kv260", 0x1000020F6014407),
    ],
)
def test_fingerprints_equal_the_published_ones(name: str, fingerprint: int) -> None:
    assert load_target(name).fingerprint == fingerprint


def test_isa1_fingerprints_equal_the_published_ones() -> None:
    target = dataclasses.replace(load_target("kv260"), isa=1)
    assert target.fingerprint == 0x101000056010407
    small = dataclasses.replace(target, array=load_target("ultra96v2-lpcv").array)
    assert small.fingerprint == 0x101000056010405


def test_peak_of_the_lpcv_board() -> None:
    assert load_target("ultra96v2-lpcv").peak_gops == pytest.approx(345.6)


def test_json_round_trip() -> None:
    for name in target_names():
        target = load_target(name)
        assert Target.from_json(target.to_json()) == target


def test_own_file_on_a_known_base(tmp_path: Path) -> None:
    file = tmp_path / "fast.yaml"
    file.write_text("base: ultra96v2-lpcv\nname: fast\nclock_mhz: 300\noptions: {augmentation: true}\n")
    target = load_target(file)
    assert target.name == "fast" and target.clock_mhz == 300
    assert target.options.augmentation and target.options.leaky_relu
    assert target.costs == load_target("ultra96v2-lpcv").costs


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
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, word: str) -> None:
    error = _error(tmp_path, text)
    assert "own.yaml" in error.where and word in str(error)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        load_target(tmp_path / "none.yaml")


def test_an_array_of_ones_own_has_no_fingerprint() -> None:
    target = load_target("kv260")
    odd = dataclasses.replace(target, array=dataclasses.replace(target.array, name="B9999"))
    with pytest.raises(ToolError):
        _ = odd.fingerprint
