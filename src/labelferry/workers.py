"""Processes that work for this one, and end when it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess


def spawned_pool(number: int) -> ProcessPoolExecutor:
    """A pool of ``number`` fresh processes; what they are given must be picklable."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(number, mp_context=context, initializer=end_with_parent)


def end_with_parent() -> None:
    """From now on this process ends at once when the one that started it is gone.

    Left to itself, a worker of a killed run would finish its job and write the result into the
    folder of the run that goes on, made with the settings of the one that was killed.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent,), name="parent", daemon=True).start()


def _outlive(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
