"""How much memory a running prediction holds: on the CPU its own, on a GPU the device's.

Megabytes are 2**20 bytes, as NVIDIA's tools and the challenge count them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from labelferry.errors import UserError

MB = 2**20

Kind = Literal["resident", "device"]


@dataclass(frozen=True)
class Sample:
    """Memory at one moment."""

    seconds: float
    """Since the start of the process."""
    mb: float


@dataclass(frozen=True)
class Meter:
    """A way to read memory."""

    kind: Kind
    """``resident``: of the process and all its children; ``device``: in use on the whole GPU."""
    read: Callable[[int], float | None]
    """Megabytes now, given the id of the process; None once that is gone."""
    baseline_mb: float = 0.0
    """In use before any process of ours ran; it is part of every sample of a GPU."""


@contextmanager
def open_meter(uuid: str | None) -> Iterator[Meter]:
    """The meter of a GPU by its UUID, or without one, that of the CPU.

    Raises ``UserError`` where NVML is not installed or does not know the GPU.
    """
    if uuid is None:
        yield Meter("resident", resident_mb)
        return
    nvml = _nvml()
    with _nvml_faults(nvml):
        nvml.nvmlInit()
    try:
        with _nvml_faults(nvml):
            handle = _handle(nvml, uuid)
            baseline = _in_use(nvml, handle)

        def read(pid: int) -> float:
            with _nvml_faults(nvml):
                return _in_use(nvml, handle)

        yield Meter("device", read, baseline)
    finally:
        nvml.nvmlShutdown()


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process and all its descendants; None where there is none (any more).

    Pages that they share are counted for each of them.
    """
    try:
        root = psutil.Process(pid)
        own = root.memory_info().rss
        children = root.children(recursive=True)
    except psutil.Error:
        return None
    if not own:
        return None  # it has ended, and only its exit code is left
    return float(own + sum(_resident(child) for child in children)) / MB


def collect(
    meter: Meter, pid: int, *, start: float, interval: float, stop: threading.Event
) -> tuple[Sample, ...]:
    """Read the meter every ``interval`` seconds until ``stop`` is set.

    ``start`` is the process's, on ``time.perf_counter``'s clock. The ticks do not drift; one that
    comes while the last is still being read is left out.
    """
    samples = []
    tick = 0
    while not stop.is_set():
        now = time.perf_counter() - start
        mb = meter.read(pid)
        if mb is not None:
            samples.append(Sample(now, mb))
        now = time.perf_counter() - start
        tick = max(tick, math.floor(now / interval)) + 1  # a timer may ring early
        stop.wait(tick * interval - now)
    return tuple(samples)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0  # it ended since it was listed


def _nvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise UserError(
            "the memory of a GPU is read through NVML, whose Python module is not installed",
            seen=error,
            fix="pip install 'labelferry[gpu]', or measure on the CPU with --device cpu",
        ) from error
    return pynvml


def _handle(nvml: Any, uuid: str) -> Any:
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    return nvml.nvmlDeviceGetHandleByUUID(name)


def _in_use(nvml: Any, handle: Any) -> float:
    """Total minus free, as the challenge measures: what the driver reserves counts too."""
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return float(memory.total - memory.free) / MB


@contextmanager
def _nvml_faults(nvml: Any) -> Iterator[None]:
    try:
        yield
    except nvml.NVMLError as error:
        raise UserError(
            "the memory of the GPU cannot be read through NVML",
            seen=error,
            fix="update the driver, or measure on the CPU with --device cpu",
        ) from error
