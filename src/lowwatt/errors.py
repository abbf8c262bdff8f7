"""The one error a user sees: what went wrong, where, why, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ToolError(Exception):
    """A mistake or a limit that the user can act on; the command line prints it without a traceback.

    >>> print(ToolError("cannot read the model", where="a.onnx", why="file is empty", hint="export it again"))
    cannot read the model
      where: a.onnx
      why:   file is empty
    <BLANKLINE>
    hint: export it again
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.hint = what, where, why, hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.why:
            lines.append(f"  why:   {self.why}")
        if self.hint:
            lines += ["", f"hint: {self.hint}"]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.where, self.why, self.hint)


def _rebuild(what: str, where: str, why: str, hint: str) -> ToolError:
    return ToolError(what, where=where, why=why, hint=hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Hint naming the nearest known word, or the known words when none is near.

    >>> did_you_mean("epoch", ["epochs", "batch"])
    'did you mean "epochs"?'
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(names)
