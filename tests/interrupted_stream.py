"""A stream that is slow at one place and says "now" there, for whoever wants to press Ctrl-C.

python tests/interrupted_stream.py source|read|preprocess|infer|postprocess|save|caller FOLDER
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.runtime import Engine
from lowwatt.runtime.pipeline import Stage
from lowwatt.runtime.results import Result
from small_detector import picture, small_detector

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it

AFTER = 3


class SlowEngine(Engine):
    """Slow at one of its stages, once the first results are out."""

    where = ""
    count = 0

    def pause(self, here: str) -> None:
        if here == self.where and self.count >= AFTER:
            print("now", flush=True)
            time.sleep(0.3)

    def slowly(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def slow(*arguments: Any) -> Any:
            self.pause(name)
            return work(*arguments)

        return slow

    def stages(self) -> list[Stage]:
        return [replace(s, workers=[self.slowly(s.name, work) for work in s.workers]) for s in super().stages()]

    def images(self) -> Iterator[np.ndarray]:
        while True:
            self.pause("source")
            yield picture((1, 1))


def main() -> None:
    engine = SlowEngine(small_detector())
    engine.where, out = sys.argv[1], Path(sys.argv[2])
    Result.save = engine.slowly("save", Result.save)  # type: ignore[method-assign]
    stream = engine.stream(engine.images(), save=out)
    try:
        for result in stream:
            assert result.frame == engine.count and not result.error and Path(result.file).is_file()
            engine.count += 1
            engine.pause("caller")
    except KeyboardInterrupt:
        stream.close()
        print("threads", threading.active_count(), "results", engine.count)


if __name__ == "__main__":
    main()
