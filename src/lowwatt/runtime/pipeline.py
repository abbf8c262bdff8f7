"""Stages that work at the same time: threads of their own, one bound on all that is under way, order kept.

A fixed number of slots goes round: the feeder puts the next item into a free one, each stage works on the slot, and the
caller gets it and so frees it. The slots are the bound, and their buffers are allocated once. Queues between the stages
need no bound of their own, so nobody ever waits to hand something on.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Generic, TypeVar

from lowwatt.errors import ToolError

PATIENCE = 1.0
"""Seconds that a thread is given to end where nobody knows when it can: it hangs, or its camera gives no image."""


@dataclass(eq=False)
class Slot:
    """A place in the pipeline; subclasses add the buffers that every item in it uses again.

    `timing` are the seconds of each stage. Where a stage raised, `error` is what, `stage` is where, and the later
    stages have not seen the item.
    """

    number: int = 0
    item: Any = None
    timing: dict[str, float] = field(default_factory=dict)
    error: BaseException | None = None
    stage: str = ""
    since: float = 0.0

    def attempt(self, stage: str, work: Callable[[Any], None]) -> bool:
        """Let a stage work on what is here; False where it raised."""
        self.since, self.stage = time.perf_counter(), stage
        try:
            work(self)
        except BaseException as error:
            self.error = error
            return False
        self.timing[stage] = time.perf_counter() - self.since
        self.stage = ""
        return True


S = TypeVar("S", bound=Slot)


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the work, and what does it: one thread for each worker, all of which take from one queue."""

    name: str
    workers: Sequence[Callable[[Any], None]]


def slots_for(stages: Sequence[Stage], waiting: int = 1) -> int:
    """How many slots keep every worker busy: one in its hands, and `waiting` at each stage (0 where age matters)."""
    return sum(len(stage.workers) + waiting for stage in stages)


def run_stages(
    items: Generator[Any, None, None], stages: Sequence[Stage], slots: Sequence[S], timeout: float | None = None
) -> Generator[S, None, None]:
    """Yield a slot for each item, in order, after every stage; it is the caller's until the next one is asked for.

    What a stage raises is in the slot; what `items` raises is raised here, after the results before it. A stage that
    works on one item for more than `timeout` seconds ends the run with a ToolError that names `str(item)`. However the
    run ends, every thread is joined (after the call that it is in) and `items` is closed; only a call that hangs, and a
    source that waits for its next item, are left behind and end by themselves.

    >>> def square(slot): slot.item = slot.item**2
    >>> [slot.item for slot in run_stages((i for i in range(4)), [Stage("square", [square, square])], [Slot(), Slot()])]
    [0, 1, 4, 9]
    """
    run = _Run(items, stages, slots, timeout)
    try:
        for thread in run.threads:
            thread.start()
        yield from run.in_order()
    finally:
        run.stop()


@dataclass(frozen=True, slots=True)
class _End:
    """Behind the last item: how many there were, and why there are no more."""

    count: int
    error: BaseException | None


class _Run(Generic[S]):
    def __init__(
        self, items: Generator[Any, None, None], stages: Sequence[Stage], slots: Sequence[S], timeout: float | None
    ) -> None:
        self._slots, self._timeout, self._hangs, self._stopped = slots, timeout, False, False
        self._free: queue.SimpleQueue[S | None] = queue.SimpleQueue()
        self._waiting: list[queue.SimpleQueue[S | None]] = [queue.SimpleQueue() for _ in stages]
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        after = [*self._waiting[1:], self._done]
        self.threads = [Thread(target=self._feed, args=(items, [*self._waiting, self._done][0]), daemon=True)]
        for stage, before, behind in zip(stages, self._waiting, after, strict=True):
            for worker in stage.workers:
                arguments = (stage.name, worker, before, behind)
                self.threads.append(Thread(target=self._work, args=arguments, daemon=True))

    # -- in the threads ----------------------------------------------------------------------------------------

    def _feed(self, items: Generator[Any, None, None], first: queue.SimpleQueue[Any]) -> None:
        error = None
        try:
            for number in itertools.count():
                slot = self._free.get()
                if slot is None or self._stopped:
                    return
                slot.item = next(items)
                slot.number, slot.timing, slot.error = number, {}, None
                first.put(slot)
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        finally:
            items.close()
        self._done.put(_End(number, error))

    def _work(
        self,
        stage: str,
        work: Callable[[S], None],
        before: queue.SimpleQueue[S | None],
        behind: queue.SimpleQueue[Any],
    ) -> None:
        while (slot := before.get()) is not None and not self._stopped:
            (behind if slot.attempt(stage, work) else self._done).put(slot)

    # -- at the caller -----------------------------------------------------------------------------------------

    def in_order(self) -> Generator[S, None, None]:
        """The slots by number, each free again when the next one is asked for."""
        early: dict[int, S] = {}
        wanted, end = 0, None
        while end is None or wanted < end.count:
            answer = early.pop(wanted, None) or self._answer()
            if isinstance(answer, _End):
                end = answer
            elif answer.number != wanted:
                early[answer.number] = answer
            else:
                yield answer
                wanted += 1
                answer.item, answer.stage = None, ""
                self._free.put(answer)
        if end.error is not None:
            raise end.error

    def _answer(self) -> Any:
        while True:
            try:
                return self._done.get(timeout=None if self._timeout is None else self._timeout / 4)
            except queue.Empty:
                self._check_hanging()

    def _check_hanging(self) -> None:
        now, limit = time.perf_counter(), self._timeout or 0.0
        for slot in sorted(self._slots, key=lambda slot: slot.number):
            if slot.stage and slot.error is None and now - slot.since > limit:
                self._hangs = True
                why = f"{slot.stage} has not answered for {now - slot.since:.1f} s; its thread cannot be stopped"
                hint = "look whether the device hangs; where it is only slow, give the engine a longer timeout"
                raise ToolError("the pipeline hangs", where=str(slot.item), why=why, hint=hint)

    def stop(self) -> None:
        """Tell every thread to end, and wait for it."""
        self._stopped = True
        for waiting in (self._free, *self._waiting):
            for _ in self.threads:
                waiting.put(None)
        for thread in self.threads:
            if thread.ident is not None:
                feeds = thread is self.threads[0]
                thread.join(PATIENCE if feeds or self._hangs else self._timeout)
