"""docs/supported-ops.md: the operator rules as a table, so that the page cannot say other than the compiler does.

python -m lowwatt.compiler.ops_page > docs/supported-ops.md
"""

from __future__ import annotations

from collections.abc import Iterable

from lowwatt.compiler.limits import feature_map
from lowwatt.compiler.rewrites import EXACT, INEXACT
from lowwatt.compiler.rules import FOLLOWERS, RULES, limits_of
from lowwatt.ir.ops import operator_names

_HEAD = """# Operators that the accelerator takes

Made from the rules in `src/lowwatt/compiler/` by `python -m lowwatt.compiler.ops_page`: change those, not this page.
[dpu.md](dpu.md) 2 says where the limits come from. ISA0 is DPUCZDX8G 3.x (the LPCV 2021 board; Vitis AI up to 2.0),
ISA1 is 4.x.

A node that breaks a limit runs on the host, and `lowwatt check` says which limit, what was found and what to change.

| operator | ISA0 | ISA1 |
|---|---|---|
"""


def render() -> str:
    """The page: a row for each operator that at least one instruction set takes, then the others by name.

    >>> "| identity | taken | as ISA0 |" in render()
    True
    """
    taken = [op for op in operator_names() if any(op in rules for rules in RULES.values())]
    host = [op for op in operator_names() if op not in taken]
    rows = "".join(f"| {op} | {_cell(op, 0)} | {_cell(op, 1)} |\n" for op in taken)
    any_rank = [op for op in taken if not any(feature_map in limits_of(op, isa) for isa in RULES)]
    notes = (_names(_RANK, any_rank), _names("On the host always", host), _names(_FOLLOW, FOLLOWERS))
    rewrites = "".join(f"| {one.name} | {', '.join(one.ops)} | {_KEEPS[one.keeps]} | {one.what} |\n" for one in _ALL)
    return _HEAD + rows + "".join(f"\n{note}\n" for note in notes) + _REWRITES + rewrites


_ALL = (*EXACT, *INEXACT)
_KEEPS = {"integers": "exact", "reals": "exact on real values", "nothing": "needs fine-tuning"}
_REWRITES = """
# Rewrites

`lowwatt check FILE --rewrite -o rewritten.lwg` changes what breaks a limit into what does not, wherever one of these
fits and helps, and compares the networks before and after on random inputs. Those that are exact on real values are
applied to float graphs alone: quantize after rewriting. Those that need fine-tuning are applied with `--inexact` alone.

| rewrite | operators | keeps the function | what it does |
|---|---|---|---|
"""


_RANK = f"{(feature_map.__doc__ or '').strip()} Without that limit"
_FOLLOW = "On the accelerator or the host, whichever saves a crossing, as they only move values"


def _cell(op: str, isa: int) -> str:
    """Limits of one operator, a sentence each; the rank of its maps is told once, below the table."""
    limits = limits_of(op, isa)
    if isa > 0 and limits == limits_of(op, 0):
        return "as ISA0"
    return "<br>".join(" ".join((at.__doc__ or "").split()) for at in limits if at is not feature_map) or "taken"


def _names(what: str, ops: Iterable[str]) -> str:
    return f"{what}: {', '.join(ops)}."


if __name__ == "__main__":
    print(render(), end="")
