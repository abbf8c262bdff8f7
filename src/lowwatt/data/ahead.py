"""Work done ahead by threads, given in order."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = "lowwatt-data"
"""Beginning of the threads' names."""
_MOST = 4


def default_workers(world: int = 1) -> int:
    """Threads for each of `world` processes: a core is left to the training itself, and four feed a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(_MOST, cores // world - 1, cores - 1))


def in_order(make: Callable[..., T], jobs: Iterable[tuple[object, ...]], workers: int) -> Generator[T, None, None]:
    """`make(*job)` for each job, in their order, made by `workers` threads; at most 2 a thread and one wait to be read.

    Whoever stops reading, or closes the iterator, or is interrupted ends the threads: what has not begun is dropped.
    An error in a thread is raised where its result would have been read.

    >>> list(in_order(lambda x: x * x, [(1,), (2,), (3,)], workers=2))
    [1, 4, 9]
    """
    if not workers:
        yield from (make(*job) for job in jobs)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix=THREADS)
    ahead: deque[Future[T]] = deque()
    try:
        with _sequential_opencv():
            for job in jobs:
                ahead.append(pool.submit(make, *job))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _sequential_opencv() -> Iterator[None]:
    """OpenCV would start threads of its own in each of ours; the number is one for the whole process."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
