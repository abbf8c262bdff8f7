"""Machines from files: Vivado's hand-off, arch.json, xdputil's answer; damaged and hostile ones too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowwatt.errors import ToolError
from lowwatt.targets import board, core_name, core_named, load_target, target_names
from lowwatt.targets import text as limits

B2304 = {"ARCH_PP": 8, "ARCH_ICP": 12, "ARCH_OCP": 12, "ARCH_IMG_BKGRP": 2}
LPCV = {  # the parameters of the LPCV 2021 winner's core
    **B2304,
    "SYS_IP_VER": "0x00000033",
    "VER_TARGET": "0x141",
    "RAM_DEPTH_MEAN": 1,
    "RAM_DEPTH_BIAS": 3,
    "RAM_DEPTH_WGT": 3,
    "RAM_DEPTH_IMG": 3,
    "LOAD_AUGM": 0,
    "CONV_LEAKYRELU": 1,
    "CONV_RELU6": 1,
    "POOL_AVERAGE": 1,
    "ELEW_MULT_EN": 0,
    "ELEW_PARALLEL": 1,
    "DWCV_RELU6": 1,
    "DWCV_PARALLEL": 4,
    "DNNDK_PRINT": "xrt test",
}
ISA1 = {
    **B2304,
    "SYS_IP_VER": "0x41",
    "LOAD_AUGM": 1,
    "CONV_LEAKYRELU": 1,
    "CONV_RELU6": 1,
    "POOL_AVERAGE": 1,
    "ELEW_PARALLEL": 4,
    "ELEW_MULT_EN": 1,
    "ALU_LEAKYRELU": 0,
    "ALU_PARALLEL": 4,
    "SAVE_ARGMAX_ENA": 1,
}
KERNEL = {"aclk": "149998500", "ap_clk_2": "299997000"}
LPDDR4 = {
    "PSU__DDRC__BUS_WIDTH": "32 Bit",
    "PSU__DDRC__MEMORY_TYPE": "LPDDR 4",
    "PSU__CRF_APB__DDR_CTRL__ACT_FREQMHZ": "266.664001",
}


def _module(kind: str, parameters: dict[str, object], clocks: dict[str, str]) -> str:
    ports = "".join(f'<PORT CLKFREQUENCY="{hz}" DIR="I" NAME="{name}" SIGIS="clk"/>' for name, hz in clocks.items())
    bus = '<BUSINTERFACES><BUSINTERFACE><PARAMETER NAME="ARCH_PP" VALUE="99"/></BUSINTERFACE></BUSINTERFACES>'
    values = "".join(f'<PARAMETER NAME="{name}" VALUE="{value}"/>' for name, value in parameters.items())
    return f'<MODULE MODTYPE="{kind}"><PARAMETERS>{values}</PARAMETERS><PORTS>{ports}</PORTS>{bus}</MODULE>'


def _hwh(*cores: dict[str, object], clocks: dict[str, str] = KERNEL, memory: dict[str, str] = LPDDR4) -> str:
    """A hand-off file as Vivado writes it, with nothing that machines do not need."""
    modules = "".join(_module("DPUCZDX8G", core, clocks) for core in cores)
    return (
        '\ufeff<?xml version="1.0" encoding="UTF-8" standalone="no" ?><EDKSYSTEM EDWVERSION="1.2">'
        '<SYSTEMINFO ARCH="zynquplus" DEVICE="xczu3eg" PACKAGE="sbva484" SPEEDGRADE="-1"/>'
        f"<MODULES>{modules}{_module('zynq_ultra_ps_e', dict(memory), {})}</MODULES></EDKSYSTEM>"
    )


def _write(tmp_path: Path, content: str | bytes, name: str = "my.hwh") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_winners_hand_off_is_the_lpcv_machine(tmp_path: Path) -> None:
    assert load_target(_write(tmp_path, _hwh(LPCV))) == board("ultra96v2-lpcv")


def test_another_core_on_the_same_chip(tmp_path: Path) -> None:
    target = load_target(_write(tmp_path, _hwh({**LPCV, "LOAD_AUGM": 1})))
    assert target.name == "my.hwh" and target.board == "xczu3eg-1" and target.clock_mhz == 150
    assert target.options.augmentation and target.fingerprint == 0x1000020F6014405
    assert target.costs.load_gb_s == board("ultra96v2-lpcv").costs.load_gb_s
    for text in (target.provenance, target.costs.provenance, target.host.provenance, target.energy.provenance):
        assert "ultra96v2-lpcv" in text


def test_cores_of_vivados_ip(tmp_path: Path) -> None:
    clocks = {"s_axi_aclk": "100000000", "dpu_2x_clk": "650000000", "m_axi_dpu_aclk": "325000000"}
    target = load_target(_write(tmp_path, _hwh({**ISA1, "VER_DPU_NUM": 2}, clocks=clocks)))
    assert target.core == core_named("DPUCZDX8G_ISA1_B2304") and target.clock_mhz == 325
    assert "one of 2 cores" in target.description


def test_isa1_without_argmax_is_the_core_of_vitis_ai_25(tmp_path: Path) -> None:
    older = {name: value for name, value in ISA1.items() if name != "SAVE_ARGMAX_ENA"}
    assert load_target(_write(tmp_path, _hwh(older))).fingerprint == 0x101000016010405


def test_a_core_without_depthwise_convolution(tmp_path: Path) -> None:
    bare = {**LPCV, "DWCV_PARALLEL": 0, "DWCV_RELU6": 0, "POOL_AVERAGE": 0, "CONV_LEAKYRELU": 0, "SYS_IP_VER": "0x34"}
    target = load_target(_write(tmp_path, _hwh(bare)))
    assert core_name(target.core) == "DPUCZDX8G_ISA0_B2304_MIN" and target.depthwise_bank is None


def test_several_equal_cores_are_one_machine(tmp_path: Path) -> None:
    target = load_target(_write(tmp_path, _hwh({**LPCV, "LOAD_AUGM": 1}, {**LPCV, "LOAD_AUGM": 1})))
    assert "one of 2 cores" in target.description


def test_what_the_file_leaves_open_comes_from_the_nearest_board(tmp_path: Path) -> None:
    target = load_target(_write(tmp_path, _hwh(LPCV, clocks={"ap_clk_2": "400000000"}, memory={})))
    assert target.clock_mhz == 200 and target.dram.peak_gb_s == 4.27 and "ultra96v2-lpcv" in target.dram.provenance
    still = load_target(_write(tmp_path, _hwh(LPCV, clocks={}, memory={})))
    assert still.clock_mhz == 150 and "clock" in still.provenance
    wide = {**LPDDR4, "PSU__DDRC__BUS_WIDTH": "64 Bit", "PSU__CRF_APB__DDR_CTRL__ACT_FREQMHZ": "600.0"}
    assert load_target(_write(tmp_path, _hwh(LPCV, memory=wide))).costs.load_gb_s == board("kv260").costs.load_gb_s


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"ARCH_PP": 9}, "ARCH_PP"),
        ({"ARCH_PP": "eight"}, "ARCH_PP"),
        ({"ARCH_PP": "9" * 5000}, "ARCH_PP"),
        ({"ARCH_IMG_BKGRP": 1}, "ARCH_IMG_BKGRP"),
        ({"ELEW_PARALLEL": 0}, "ELEW_PARALLEL"),
        ({"DWCV_PARALLEL": -1}, "DWCV_PARALLEL"),
        ({"DWCV_PARALLEL": 16}, "DWCV_PARALLEL"),
        ({"LOAD_AUGM": 7}, "LOAD_AUGM"),
        ({"RAM_DEPTH_WGT": 1}, "RAM_DEPTH_WGT"),
        ({"VER_TARGET": "0x140"}, "1.4.0"),
        ({"VER_DPU_NUM": "many"}, "VER_DPU_NUM"),
    ],
)
def test_cores_that_are_not_known_are_refused(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    with pytest.raises(ToolError) as error:
        load_target(_write(tmp_path, _hwh({**LPCV, **changes})))
    assert word in str(error.value) and "my.hwh" in error.value.where


@pytest.mark.parametrize("hz", ["0", "-1", "nan", "inf", "1e400", "fast", "1" * 5000])
def test_clocks_that_are_none(tmp_path: Path, hz: str) -> None:
    with pytest.raises(ToolError):
        load_target(_write(tmp_path, _hwh(LPCV, clocks={"aclk": hz})))


@pytest.mark.parametrize("mhz", ["0", "nan", "1e300", "x"])
def test_memories_that_are_none(tmp_path: Path, mhz: str) -> None:
    memory = {**LPDDR4, "PSU__CRF_APB__DDR_CTRL__ACT_FREQMHZ": mhz}
    try:
        target = load_target(_write(tmp_path, _hwh(LPCV, memory=memory)))
    except ToolError as error:
        assert "FREQMHZ" in error.where
    else:
        assert target.dram.peak_gb_s == 4.27


def test_two_kinds_of_core_are_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="several kinds") as error:
        load_target(_write(tmp_path, _hwh(LPCV, ISA1)))
    assert "DPUCZDX8G_ISA1_B2304" in error.value.why


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><EDKSYSTEM>&c;</EDKSYSTEM>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><EDKSYSTEM/>'
DEEP = "<EDKSYSTEM>" + "<MODULE>" * 200_000


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x",
        "<a/>",
        "<EDKSYSTEM/>",
        BOMB,
        OUTSIDE,
        DEEP,
        "\0",
        b"\xff\xfe\xff",
        '<?xml version="1.0" encoding="x"?><a/>',
    ],
    ids=["empty", "text", "root", "no core", "bomb", "outside", "deep", "nul", "bytes", "encoding"],
)
def test_what_is_no_hand_off_file(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ToolError, match="cannot read the hand-off file") as error:
        load_target(_write(tmp_path, content))
    assert "my.hwh" in error.value.where


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(_hwh(LPCV).encode()) - 1), st.one_of(st.none(), st.integers(0, 255)))
def test_damaged_hand_off_files_are_answered(tmp_path: Path, at: int, byte: int | None) -> None:
    """Cut short, or with one byte replaced: a machine or a ToolError, nothing else."""
    data = _hwh(LPCV).encode()
    damaged = data[:at] if byte is None else data[:at] + bytes([byte]) + data[at + 1 :]
    path = _write(tmp_path, damaged)
    try:
        load_target(path)
    except ToolError:
        assert damaged != data


@pytest.mark.parametrize("name", ["my.hwh", "arch.json", "own.yaml"])
def test_files_that_are_too_large_or_not_there(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError):
        load_target(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ToolError):
        load_target(tmp_path / name)
    (tmp_path / name).rmdir()
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 20)
    with pytest.raises(ToolError, match="larger than 1 MiB"):
        load_target(_write(tmp_path, b" " * ((1 << 20) + 1), name))


@pytest.mark.parametrize(
    "values, name",
    [
        ({"fingerprint": "0x101000016010407"}, "DPUCZDX8G_ISA1_B4096_0101000016010407"),
        ({"fingerprint": "0x0101000056010407"}, "DPUCZDX8G_ISA1_B4096"),
        ({"target": "DPUCZDX8G_ISA1_B4096"}, "DPUCZDX8G_ISA1_B4096"),
        ({"target": "DPUCZDX8G_ISA0_B3136_MAX_BG2"}, "DPUCZDX8G_ISA0_B3136_MAX_BG2"),
        ({"target": "0x1000020f7014407"}, "DPUCZDX8G_ISA0_B4096_MAX"),
    ],
)
def test_arch_json(tmp_path: Path, values: dict[str, str], name: str) -> None:
    target = load_target(_write(tmp_path, json.dumps(values), "arch.json"))
    assert target.name == name == core_name(target.core)
    assert "arch.json" in target.provenance


def test_a_name_with_two_meanings_says_so(tmp_path: Path) -> None:
    path = _write(tmp_path, '{"target": "DPUCZDX8G_ISA1_B4096"}', "arch.json")
    assert "2.5 called 0x101000016010407 so" in load_target(path).provenance


def test_the_answer_of_xdputil(tmp_path: Path) -> None:
    kernels = [{"name": "softmax"}, {"fingerprint": "0x101000056010407", "DPU Frequency (MHz)": 275}]
    target = load_target(_write(tmp_path, json.dumps({"kernels": kernels}), "query.json"))
    assert target.fingerprint == 0x101000056010407 and target.clock_mhz == 275


@pytest.mark.parametrize(
    "content, word",
    [
        ("", "known forms"),
        ("[" * 100_000, "nested"),
        ("[]", "mapping"),
        ("{}", "names no core"),
        ('{"fingerprint": 5}', "names no core"),
        ('{"fingerprint": null, "target": "x"}', "names no core"),
        ('{"fingerprint": "0x"}', "not a number"),
        ('{"fingerprint": "0x' + "f" * 5000 + '"}', "not a number"),
        ('{"fingerprint": "0x603000b56011861"}', "DPUCVDX8G"),
        ('{"fingerprint": "٣"}', "unknown core"),
        ('{"fingerprint": ' + "9" * 5000 + "}", "digit"),
        ('{"target": "dpuv2", "dcf": "./dpu.dcf"}', "unknown core"),
        ('{"dcf": "./dpu.dcf"}', ".hwh"),
        ('{"kernels": 3}', "names no core"),
        ('{"kernels": [{"fingerprint": "0x101000056010407", "DPU Frequency (MHz)": 1e400}]}', "no clock"),
        ('{"kernels": [{"fingerprint": "0x101000056010407", "DPU Frequency (MHz)": "fast"}]}', "no clock"),
        ("\udcff", "arch.json"),
    ],
)
def test_arch_json_that_is_none(tmp_path: Path, content: str, word: str) -> None:
    path = _write(tmp_path, content.encode("utf-8", "surrogateescape"), "arch.json")
    with pytest.raises(ToolError) as error:
        load_target(path)
    assert word in str(error.value) and "arch.json" in error.value.where


def test_fingerprints_and_names_in_a_targets_place() -> None:
    assert load_target("0x101000056010407").core == load_target("DPUCZDX8G_ISA1_B4096").core == board("kv260-vai3").core
    assert load_target("0X101000056010407").core == board("kv260-vai3").core
    assert load_target("DPUCZDX8G_ISA1_B512").costs.load_gb_s == board("ultra96v1").costs.load_gb_s


@pytest.mark.parametrize("on", target_names())
def test_a_core_on_a_board_that_was_named(on: str) -> None:
    target = load_target(f"DPUCZDX8G_ISA1_B1152@{on}")
    known = board(on)
    assert target.name.endswith(f"@{on}") and target.clock_mhz == known.clock_mhz and target.host.element_ns > 0
    assert target.board == known.board and target.costs.load_gb_s == known.costs.load_gb_s
    assert load_target(target.name) == target


@pytest.mark.parametrize(
    "name", ["0x", "0xzz", "0x12", "kv261", "DPUCZDX8G_ISA2_B4096", "x@kv260", "@kv260", "kv260@", ""]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ToolError):
        load_target(name)
