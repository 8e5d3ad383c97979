"""Work that is done case by case, in this process or in several (``concurrent.futures``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from labelferry.errors import UserError
from labelferry.workers import spawned_pool

_MOST_WORKERS = 61  # Windows can wait for no more
_FEW = 64
Job = TypeVar("Job")
Result = TypeVar("Result")


def map_cases(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    executor: Executor | None = None,
) -> Iterator[tuple[Job, Result | UserError]]:
    """Results in the order of the jobs; a case that is refused gives its ``UserError``.

    ``work`` and the jobs must be picklable where there is more than one worker. Any other
    exception is a fault of ours and ends the run.
    """
    if executor is None and (workers <= 1 or len(jobs) <= 1):
        for job in jobs:
            yield job, _told(work, job)
        return
    pool = executor or spawned_pool(min(workers, len(jobs), _MOST_WORKERS))
    try:
        futures = [pool.submit(_told, work, job) for job in jobs]
        for job, future in zip(jobs, futures, strict=True):
            yield job, future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died (out of memory?)",
            fix="run again with fewer workers: --set workers=1",
        ) from error
    finally:
        if executor is None:
            pool.shutdown(cancel_futures=True)


def for_light_work(workers: int, jobs: int) -> int:
    """How many processes are worth their start where a job takes milliseconds."""
    return workers if jobs >= _FEW else 1


def _told(work: Callable[[Job], Result], job: Job) -> Result | UserError:
    try:
        return work(job)
    except UserError as error:
        return error
