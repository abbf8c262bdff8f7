"""Instruction words: tables, round trips, errors, text, tokens."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.compiler.isa import (
    ISA0,
    ISA0_FIRST,
    ISA1,
    Instruction,
    InstructionSet,
    assemble,
    balance,
    decode,
    encode,
    first_stuck,
    listing,
    text,
)
from lowwatt.errors import ToolError

SETS = [ISA0, ISA0_FIRST, ISA1]
LENGTHS = {"LOAD": 4, "SAVE": 4, "CONVINIT": 4, "CONV": 5, "POOLINIT": 2, "POOL": 5, "DWINIT": 3, "DPTWISE": 5}
LENGTHS |= {"ELEWINIT": 2, "ELEW": 3, "END": 1}


def build(name: str, isa: InstructionSet = ISA1, **values: int) -> Instruction:
    """An instruction whose other fields are 0."""
    spec = isa.spec(name)
    return Instruction(spec, dict.fromkeys(spec.named, 0) | values)


@pytest.mark.parametrize(
    ("isa", "lengths"),
    [
        (ISA0, LENGTHS),
        (ISA0_FIRST, LENGTHS | {"ELEW": 2}),
        (ISA1, LENGTHS | {"LOAD": 5, "SAVE": 5, "ELEWINIT": 3, "ALUINIT": 6, "ALU": 5}),
    ],
)
def test_lengths_in_words(isa: InstructionSet, lengths: dict[str, int]) -> None:
    assert {name: spec.length for name, spec in isa.by_name.items()} == lengths


@pytest.mark.parametrize("isa", SETS)
def test_fields_fill_every_word_once(isa: InstructionSet) -> None:
    for spec in isa.by_name.values():
        bits = [0] * spec.length
        for field in spec.fields:
            assert bits[field.word] & field.limit << field.shift == 0
            bits[field.word] |= field.limit << field.shift
        assert bits == [0xFFFFFFFF] * spec.length, spec.name
        names = [field.name for field in spec.fields if field.name]
        assert len(names) == len(set(names)), spec.name


def test_words_by_hand() -> None:
    """The first LOAD of a genuine ISA1 program: 32 bias bytes to bank 33."""
    load = build("LOAD", depends_on=1, depended_by=1, bank_id=33, jump_read=31, channel=31)
    assert encode(load) == (0x01184000, 31 << 10, 31 << 10, 0, 0)
    assert load.real("channel") == 32
    save = build("SAVE", ISA0, hp_id=1, depended_by=2, length=3, jump_read=7, ddr_addr=0x30, reg_id=2, channel=15)
    assert encode(save) == (0x40240000 | 1 << 18, 0, 15 | 3 << 14 | 7 << 24, 0x30 | 2 << 29)


@st.composite
def programs(draw: st.DrawFn) -> tuple[InstructionSet, list[Instruction]]:
    """Instructions of one set with any values."""
    isa = draw(st.sampled_from(SETS))
    kinds = st.sampled_from(sorted(isa.by_name.values(), key=lambda spec: spec.opcode))
    found = []
    for spec in draw(st.lists(kinds, max_size=12)):
        values = {name: draw(st.integers(0, field.limit)) for name, field in spec.named.items()}
        found.append(Instruction(spec, values))
    return isa, found


@settings(max_examples=60, deadline=None)
@given(programs())
def test_round_trip(case: tuple[InstructionSet, list[Instruction]]) -> None:
    isa, instructions = case
    code = assemble(instructions)
    assert decode(code, isa) == instructions
    assert len(code) == 4 * sum(i.spec.length for i in instructions)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SETS), st.binary(max_size=64))
def test_any_bytes_decode_or_end_in_an_error(isa: InstructionSet, code: bytes) -> None:
    try:
        assert assemble(decode(code, isa)) == code
    except ToolError as error:
        assert error.where.startswith("byte ")


def _code(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


END = 0x72200000


@pytest.mark.parametrize(
    ("isa", "code", "what", "where"),
    [
        (ISA1, _code(END, 0x50000000), "ISA1 has no opcode 0x5", "byte 4 (0x4)"),
        (ISA0, _code(END, 0x10000000), "ISA0 has no opcode 0x1", "byte 4 (0x4)"),
        (ISA1, _code(END, END, 0, 0), "the program ends within a LOAD", "byte 8 (0x8)"),
        (ISA1, _code(END) + b"\0", "the program ends within a word", "byte 4 (0x4)"),
        (ISA1, _code(END, 0, 0, 0, 1 << 3, 0), "reserved bits of LOAD are set", "byte 16 (0x10)"),
        (ISA1, _code(END | 1), "reserved bits of END are set", "byte 0 (0x0)"),
    ],
)
def test_damage_is_told_with_its_byte(isa: InstructionSet, code: bytes, what: str, where: str) -> None:
    with pytest.raises(ToolError) as caught:
        decode(code, isa)
    assert (caught.value.what, caught.value.where) == (what, where)


def test_encode_refuses_what_does_not_fit() -> None:
    with pytest.raises(ToolError, match="does not fit its 10 bits"):
        encode(build("LOAD", length=1024))
    with pytest.raises(ToolError, match="does not fit"):
        encode(build("LOAD", length=-1))
    with pytest.raises(ToolError, match="has other fields"):
        encode(Instruction(ISA1.spec("END"), {"depends_on": 0}))
    with pytest.raises(ToolError, match="ISA0 has no instruction ALU"):
        ISA0.spec("ALU")


def test_text_shows_real_numbers() -> None:
    conv = build("CONV", depends_on=5, depended_by=12, length=25, channel_group=3, bank_id_in=8, pad_left=1)
    line = text(conv)
    assert line.startswith("CONV     wait LOAD+CONV post CONV+MISC ")
    for part in ("length 26", "channel_group 4", "bank_id_in 8", "bank_id_out 0", "pad_left 1"):
        assert f" {part} " in f"{line} "
    assert "pad_top" not in line
    assert " shift_write -1 " in text(build("ELEW", ISA0, shift_write=0b1001))
    assert " ddr_addr 0x1c" in text(build("LOAD", ddr_addr=28))


def test_listing_counts_bytes() -> None:
    offsets = [offset for offset, _ in listing([build("LOAD"), build("END"), build("CONVINIT"), build("END")])]
    assert offsets == [0, 20, 24, 40]


LOAD, SAVE, CONV = 1, 2, 4


def test_tokens_are_counted_by_pair() -> None:
    program = [
        build("LOAD", depended_by=CONV),
        build("LOAD", depended_by=CONV),
        build("CONV", depends_on=LOAD | CONV, depended_by=SAVE | CONV),
        build("SAVE", depends_on=CONV),
    ]
    tokens = balance(program)
    assert (tokens["LOAD", "CONV"].posted, tokens["LOAD", "CONV"].taken) == (2, 1)
    assert not tokens["LOAD", "CONV"].balanced
    assert tokens["CONV", "SAVE"].balanced and tokens["CONV", "CONV"].balanced
    assert set(tokens) == {("LOAD", "CONV"), ("CONV", "SAVE"), ("CONV", "CONV")}
    assert first_stuck(program) is None


def test_a_balanced_program_can_deadlock() -> None:
    """LOAD waits for CONV and CONV for LOAD; the instruction behind LOAD in its engine waits too."""
    program = [
        build("LOAD", depends_on=CONV, depended_by=CONV),
        build("LOAD"),
        build("CONV", depends_on=LOAD, depended_by=LOAD),
        build("SAVE"),
    ]
    assert all(tokens.balanced for tokens in balance(program).values())
    assert first_stuck(program) == 0
    assert first_stuck([build("SAVE"), build("SAVE", depends_on=CONV)]) == 1


def test_engines_run_side_by_side() -> None:
    """A LOAD may stand behind the CONV that waits for it, since the engines have queues of their own."""
    program = [build("CONV", depends_on=LOAD), build("LOAD", depended_by=CONV)]
    assert first_stuck(program) is None
