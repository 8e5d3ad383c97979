"""Batches for a training loop, made ahead by other processes or by a thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from labelferry.errors import UserError
from labelferry.replicas import Team
from labelferry.segment.config import TrainConfig
from labelferry.segment.samples import Batch, PatchDataset, collate

Item = TypeVar("Item")


def load_batches(
    dataset: PatchDataset, config: TrainConfig, start: int, team: Team
) -> Generator[Batch, None, None]:
    """Batches from step ``start`` on: this process's share of each."""
    indices = team.share(range(start * config.batch, config.iterations * config.batch))
    loader = DataLoader(
        dataset,
        batch_size=config.batch // team.size,
        sampler=indices,
        collate_fn=collate,
        num_workers=config.workers,
        generator=torch.Generator().manual_seed(0),
        multiprocessing_context="spawn" if config.workers else None,
    )
    if config.workers:
        batches: Any = iter(loader)
        try:
            yield from batches
        finally:
            with _deaf_to_children():
                batches._shutdown_workers()
        return
    with closing(ahead(loader)) as made:
        yield from made


@contextmanager
def dead_workers_told() -> Iterator[None]:
    """Say in words that a process of a ``DataLoader`` has died.

    Torch hears of it by a signal, wherever the training just is, or within five seconds when it
    waits for a batch. A process that is only slow is waited for.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise  # of another kind, or from within a sample
        raise UserError(
            "a process that prepares patches has died (out of memory?)",
            seen=str(error).splitlines()[0],
            fix="give the same command again with fewer of them (train.workers; 0 needs none)",
        ) from error


@contextmanager
def _deaf_to_children() -> Iterator[None]:
    """Torch raises anew for a dead process with every other one that ends, until all are gone."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread alone
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def ahead(items: Iterable[Item], slots: int = 2) -> Generator[Item, None, None]:
    """Let one thread make the next items while the caller works on the last.

    Patches draw from the global generators under a seed of their own (see ``augment.seeded``), and
    nothing else in training draws from them, so that the order of threads decides nothing.
    """
    queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(slots)
    stop = Event()

    def put(value: tuple[bool, Item | BaseException | None]) -> None:
        while not stop.is_set():
            try:
                return queue.put(value, timeout=0.1)
            except Full:
                continue

    def work() -> None:
        try:
            for item in items:
                if stop.is_set():
                    return
                put((True, item))
            put((False, None))
        except BaseException as error:  # told in the caller's thread
            put((False, error))

    thread = Thread(target=work, name="patches", daemon=True)
    thread.start()
    try:
        while True:
            more, value = queue.get()
            if not more:
                if value is not None:
                    assert isinstance(value, BaseException)
                    raise value
                return
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
