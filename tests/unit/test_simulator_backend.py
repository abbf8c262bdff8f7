"""The simulator's two fidelities give the same integers."""

from __future__ import annotations

import numpy as np
import pytest

from lowwatt.backends import open_backend
from lowwatt.compiler import compile
from lowwatt.errors import ToolError
from yolox_graph import quantized_graph


def test_fast_and_words_are_equal() -> None:
    program = compile(quantized_graph(), "kv260", "best")
    images = {"image": np.random.default_rng(0).integers(-128, 128, (2, 8, 8, 3)).astype(np.int8)}
    fast, words = (open_backend("simulator", program, fidelity=f).run(images) for f in ("fast", "words"))
    assert fast.keys() == words.keys() and all((fast[name] == words[name]).all() for name in fast)


def test_mistakes_are_answered() -> None:
    with pytest.raises(ToolError, match="unknown fidelity"):
        open_backend("simulator", quantized_graph(), fidelity="word")
    with pytest.raises(ToolError, match="only a program"):
        open_backend("simulator", quantized_graph(), fidelity="words")
