"""Stages that work at the same time: one thread each, bounded queues between them, order kept."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Stage = Callable[[Any], Any]
_POLL = 0.1
"""Seconds after which a waiting thread looks whether it should stop."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """An exception on its way to the caller."""

    error: BaseException


_END = object()


def run_stages(items: Iterable[Any], stages: Sequence[Stage], depth: int = 4) -> Generator[Any, None, None]:
    """Yield `stages[-1](… stages[0](item))` for each item, in order; each stage has a thread of its own.

    At most `depth` items wait before a stage, so that a slow reader of the results holds the whole line back. An
    exception of `items` or of a stage is raised here, after the results before it. Closing the generator stops
    and joins every thread (after the stage call under way).

    >>> list(run_stages(range(4), [lambda x: x + 1, lambda x: x * x]))
    [1, 4, 9, 16]
    """
    stop = threading.Event()
    lines = [_Line(depth, stop) for _ in range(len(stages) + 1)]
    threads = [threading.Thread(target=_produce, args=(items, lines[0]), daemon=True)]
    for stage, before, after in zip(stages, lines, lines[1:], strict=False):
        threads.append(threading.Thread(target=_work, args=(stage, before, after), daemon=True))
    for thread in threads:
        thread.start()
    try:
        while (item := lines[-1].get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class _Stopped(Exception):
    """Nobody wants the results any more."""


class _Line:
    """A bounded queue whose waiting ends when `stop` is set."""

    def __init__(self, depth: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop = stop

    def put(self, item: Any) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=_POLL)
        raise _Stopped

    def get(self) -> Any:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=_POLL)
        raise _Stopped


def _produce(items: Iterable[Any], after: _Line) -> None:
    with contextlib.suppress(_Stopped):
        try:
            for item in items:
                after.put(item)
        except _Stopped:
            raise
        except BaseException as error:
            after.put(_Failure(error))
        after.put(_END)


def _work(stage: Stage, before: _Line, after: _Line) -> None:
    with contextlib.suppress(_Stopped):
        while (item := before.get()) is not _END:
            after.put(item if isinstance(item, _Failure) else _attempt(stage, item))
        after.put(_END)


def _attempt(stage: Stage, item: Any) -> Any:
    try:
        return stage(item)
    except BaseException as error:
        return _Failure(error)
