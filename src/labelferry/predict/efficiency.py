"""Time and memory of predicting, one fresh process for each case, as the challenge measures."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from labelferry.errors import UserError
from labelferry.files import atomic_path
from labelferry.predict.config import Export
from labelferry.predict.costs import CaseCost, CostTable
from labelferry.predict.files import case_id, find_images, keep_out, output_paths
from labelferry.predict.memory import Meter, Sample, collect, open_meter
from labelferry.predict.tables import Failure
from labelferry.workers import spawned_pool

_INTERVALS = (0.005, 10.0)
_MARKS = ("failed: ", "error: ", "this is a fault of labelferry")
"""How the lines of ``labelferry predict`` begin that say why."""


_COLOURS = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Would put colours and progress bars into those lines."""


@dataclass(frozen=True)
class _Target:
    """The model and the device that the processes will use."""

    model: str
    device: str
    name: str
    uuid: str | None
    export: Export


def measure(
    inputs: Sequence[Path],
    model: Path,
    *,
    device: str = "auto",
    export: Export | None = None,
    interval: float = 0.1,
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CostTable:
    """Predict every image of ``inputs`` (files, or folders as ``predict`` takes them) and measure.

    Each image has a process of its own, from the start of the interpreter to its exit; memory is
    sampled every ``interval`` seconds. The labels go to ``keep``, which is what ``predict`` calls
    its output, or are thrown away. A case that fails is named in the table and stops no other. An
    interrupt ends the process and leaves nothing behind. Without ``export`` the model's own is
    taken. Raises ``UserError`` for a model, a
    device, or inputs that cannot be used. A script needs ``if __name__ == "__main__":`` round it.
    """
    if not _INTERVALS[0] <= interval <= _INTERVALS[1]:
        raise UserError(
            "the interval between samples is out of range",
            seen=f"{interval:g} s",
            allowed=f"{_INTERVALS[0]:g} to {_INTERVALS[1]:g} s",
        )
    images = list(dict.fromkeys(image for path in inputs for image in find_images(path)))
    with tempfile.TemporaryDirectory(prefix="labelferry-efficiency-") as folder:
        work = Path(folder)
        if keep is not None:
            for path in inputs:
                keep_out(path, keep)
        # asked for in any case: it refuses two cases of one name
        places = output_paths(images, keep or work)
        target = _probe(model, device)
        results = []
        with open_meter(target.uuid) as meter:
            for done, image in enumerate(images):
                if progress:
                    progress(done, len(images))
                how = export or target.export
                job = _Job(image, work / "labels.nii.gz", model, target.device, how)
                results.append(_measure_case(job, meter, interval))
                if keep is not None and isinstance(results[-1], CaseCost):
                    _keep(job.labels, places[image])
        if progress:
            progress(len(images), len(images))
    return CostTable(
        cases=tuple(result for result in results if isinstance(result, CaseCost)),
        failures=tuple(result for result in results if isinstance(result, Failure)),
        device=target.name,
        memory=meter.kind,
        interval=interval,
        baseline_mb=meter.baseline_mb,
        model=target.model,
        export=export or target.export,
        version=metadata.version("labelferry"),
    )


def describe_target(model: Path, device: str) -> _Target:
    """Open the model and find the device; loads torch, so that it runs in a process of its own."""
    import torch

    from labelferry.predict.predictor import choose_device, find_bundle, inference_of
    from labelferry.segment.bundle import read_bundle

    place = find_bundle(model)
    bundle, _ = read_bundle(place)
    export = inference_of(bundle, place).export
    chosen = choose_device(device)
    if chosen.type == "cpu":
        name = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        return _Target(bundle.name, "cpu", name, None, export)
    if chosen.type != "cuda":
        raise UserError("memory is measured on cpu and cuda alone", seen=device, allowed="cpu")
    index = torch.cuda.current_device() if chosen.index is None else chosen.index
    properties = torch.cuda.get_device_properties(index)
    return _Target(bundle.name, f"cuda:{index}", properties.name, str(properties.uuid), export)


def _probe(model: Path, device: str) -> _Target:
    """:func:`describe_target`, without torch in this process: a CUDA context holds GPU memory."""
    with spawned_pool(1) as pool:
        return pool.submit(describe_target, model, device).result()


@dataclass(frozen=True)
class _Job:
    """One image to be labelled by a process."""

    image: Path
    labels: Path
    model: Path
    device: str
    export: Export

    @property
    def command(self) -> list[str]:
        # -P: nothing in the working directory is taken for a module
        program = [sys.executable, "-P", "-m", "labelferry"]
        paths = [str(self.image.absolute()), str(self.labels)]
        model = ["--model", str(self.model.absolute())]
        how = ["--device", self.device, "--export", self.export]
        return [*program, "predict", *paths, *model, *how]


@dataclass(frozen=True)
class _Run:
    """A process that has ended."""

    seconds: float
    code: int
    errors: str
    samples: tuple[Sample, ...]


def _measure_case(job: _Job, meter: Meter, interval: float) -> CaseCost | Failure:
    run = _run(job.command, meter, interval)
    if run.code == 0 and run.samples:
        return CaseCost(case_id(job.image), run.seconds, run.samples)
    return Failure(case_id(job.image), _reason(run, job))


def _run(command: Sequence[str], meter: Meter, interval: float) -> _Run:
    """Run a command to its end, sampling memory; on any error or interrupt it is killed."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name not in _COLOURS},
        )
        try:
            sampling = threads.submit(
                collect, meter, process.pid, start=start, interval=interval, stop=stop
            )
            _, errors = process.communicate()
            seconds = time.perf_counter() - start
            stop.set()
            samples = sampling.result()
        except BaseException:
            _kill(process)
            raise
        finally:
            stop.set()
    # one more may have been read while the process ended
    samples = tuple(sample for sample in samples if sample.seconds <= seconds)
    return _Run(seconds, process.returncode, errors.decode("utf-8", "replace"), samples)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, and wait until they are gone."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
    psutil.wait_procs(family, timeout=5)


def _keep(labels: Path, place: Path) -> None:
    with atomic_path(place) as part:
        shutil.copyfile(labels, part)


def _reason(run: _Run, job: _Job) -> str:
    """What the process said, without any path."""
    lines = [line.strip() for line in run.errors.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(_MARKS)] or lines
    text = said[-1] if said else f"exit code {run.code} and not a word"
    for mark in (f"failed: {case_id(job.image)}: ", "error: "):
        text = text.removeprefix(mark)
    if run.code == 0:
        text = "its memory could not be read"
    elif run.code < 0:
        why = "; perhaps the memory did not suffice" if run.code == -9 else ""
        text = f"killed by signal {-run.code} ({signal.strsignal(-run.code)}){why}"
    names = {job.image: job.image.name, job.labels: "the labels", job.model: "the model"}
    for path, name in names.items():
        for spelling in (path.resolve(), path.absolute()):
            text = text.replace(str(spelling), name)
    return text
