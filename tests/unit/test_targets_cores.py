"""Cores: arrays, the vendor's names, and fingerprints both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowwatt.errors import ToolError
from lowwatt.targets import ARRAYS, Array, Core, Options, core_name, core_named, decode, fingerprint, named_cores
from lowwatt.targets.core import alu_options

# isa_version and feature_code of Vitis-AI v3.5, src/vai_runtime/target_factory/{targets,expired_targets}/*.prototxt
LISTED = {
    "ISA0_B1024_MAX": 0x1000020F7014402,
    "ISA0_B1024_MIN": 0x100002022010102,
    "ISA0_B1152_MAX": 0x1000020F7012203,
    "ISA0_B1152_MIN": 0x100002022010103,
    "ISA0_B1600_MAX": 0x1000020F7014404,
    "ISA0_B1600_MIN": 0x100002022010104,
    "ISA0_B2304_MAX": 0x1000020F7014405,
    "ISA0_B2304_MAX_BG2": 0x1000020F6014405,
    "ISA0_B2304_MIN": 0x100002022010105,
    "ISA0_B3136_MAX": 0x1000020F7014406,
    "ISA0_B3136_MAX_BG2": 0x1000020F6014406,
    "ISA0_B3136_MIN": 0x100002022010106,
    "ISA0_B4096_MAX": 0x1000020F7014407,
    "ISA0_B4096_MAX_BG2": 0x1000020F6014407,
    "ISA0_B4096_MAX_EM": 0x1000030F7014407,
    "ISA0_B4096_MIN": 0x100002022010107,
    "ISA0_B512_MAX": 0x1000020F7012200,
    "ISA0_B512_MIN": 0x100002022010100,
    "ISA0_B800_MAX": 0x1000020F7012201,
    "ISA0_B800_MIN": 0x100002022010101,
    "ISA1_B1024": 0x101000056010402,
    "ISA1_B1152": 0x101000056010203,
    "ISA1_B1600": 0x101000056010404,
    "ISA1_B2304": 0x101000056010405,
    "ISA1_B3136": 0x101000056010406,
    "ISA1_B4096": 0x101000056010407,
    "ISA1_B512": 0x101000056010200,
    "ISA1_B800": 0x101000056010201,
}


def test_every_name_the_vendor_lists_has_its_fingerprint() -> None:
    ours = {name: fingerprint(core) for name, core in named_cores().items()}
    assert ours == {f"DPUCZDX8G_{name}": word for name, word in LISTED.items()}


@pytest.mark.parametrize("name, word", LISTED.items())
def test_listed_fingerprints_decode_to_their_cores(name: str, word: int) -> None:
    core = decode(word)
    assert core == core_named(f"DPUCZDX8G_{name}") and core_name(core) == f"DPUCZDX8G_{name}"


def test_arrays_are_named_after_their_operations() -> None:
    for array in ARRAYS:
        assert array.name == f"B{2 * array.macs_per_cycle}"
        assert array.input_channels == array.output_channels


_rows = st.integers(1, 15)
_flag = st.booleans()
_isa0 = st.builds(
    lambda depthwise, rows, **options: Options(depthwise=depthwise, depthwise_rows=rows if depthwise else 1, **options),
    depthwise=_flag,
    rows=_rows,
    augmentation=_flag,
    leaky_relu=_flag,
    relu6=_flag,
    average_pool=_flag,
    depthwise_relu6=_flag,
    eltwise_mul=_flag,
    max_reduce=_flag,
    pool_rows=_rows,
    eltwise_rows=_rows,
)
_isa1 = st.builds(
    alu_options,
    _rows,
    augmentation=_flag,
    leaky_relu=_flag,
    depthwise_leaky_relu=_flag,
    save_argmax=_flag,
)
_groups = st.sampled_from([2, 3])
cores = st.one_of(
    st.builds(Core, st.sampled_from(ARRAYS), st.just(0), _groups, _isa0),
    st.builds(Core, st.sampled_from(ARRAYS), st.just(1), _groups, _isa1),
)


@given(cores)
def test_a_core_survives_its_fingerprint(core: Core) -> None:
    assert decode(fingerprint(core)) == core


@given(cores)
def test_a_core_survives_its_name(core: Core) -> None:
    assert core_named(core_name(core)) == core


@given(cores, cores)
def test_different_cores_have_different_fingerprints(one: Core, other: Core) -> None:
    assert (one == other) == (fingerprint(one) == fingerprint(other))


@given(st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 48) - 1).map(lambda low: 1 << 56 | low)))
def test_any_word_is_either_a_core_or_refused(word: int) -> None:
    try:
        core = decode(word)
    except ToolError as error:
        assert f"{word:#x}" in error.where
    else:
        assert fingerprint(core) == word


@pytest.mark.parametrize("bit", range(48))
@pytest.mark.parametrize("word", [0x1000020F6014407, 0x101000056010407])
def test_a_flipped_bit_is_another_core_or_refused(word: int, bit: int) -> None:
    try:
        core = decode(word ^ 1 << bit)
    except ToolError:
        return
    assert core != decode(word)


@pytest.mark.parametrize(
    "word, why",
    [
        (0x603000B56011861, "DPUCVDX8G"),  # a Versal core: Xilinx/Vitis-AI issue 1149
        (0x0, "family 0"),
        (0x102000056010407, "instruction set 2"),
        (0x101000056010408, "array 8"),
        (0x101000055010407, "bit"),
        (0x101000054010407, "0 image groups"),
        (0x101000056010007, "depthwise_rows 0"),
        (0x101000056000407, "bit 16"),
        (0x100002022010005, "pool_rows 0"),
        (0x1000020FE014407, "bit 27"),
        (-1, "64 bits"),
        (1 << 64, "64 bits"),
    ],
)
def test_what_is_wrong_with_a_fingerprint_is_told(word: int, why: str) -> None:
    with pytest.raises(ToolError) as error:
        decode(word)
    assert why in error.value.why or why == "bit"


@pytest.mark.parametrize("name", ["DPUCZDX8G_ISA0_B4096", "DPUCZDX8G_ISA1_B4096_x", "DPUCZDX8G", "", "B4096"])
def test_unknown_names_are_answered(name: str) -> None:
    with pytest.raises(ToolError, match="unknown core"):
        core_named(name)


def test_a_name_that_contradicts_its_fingerprint_is_refused() -> None:
    assert core_named("DPUCZDX8G_ISA1_B4096_0101000016010407") == decode(0x101000016010407)
    with pytest.raises(ToolError, match="B4096"):
        core_named("DPUCZDX8G_ISA1_B512_0101000016010407")


def test_sizes_of_somebodys_own_have_no_fingerprint() -> None:
    core = core_named("DPUCZDX8G_ISA1_B4096")
    for array in (Array("B4096", 8, 16, 32), Array("B9999", 8, 16, 16)):
        with pytest.raises(ToolError, match="no fingerprint"):
            fingerprint(Core(array, 1, 2, core.options))
    with pytest.raises(ToolError, match="no fingerprint"):
        fingerprint(Core(ARRAYS[0], 1, 2, alu_options(16)))
