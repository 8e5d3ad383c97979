"""Predicting beside nnU-Net: seconds, memory and labels of the same weights on the same images.

``python -m benchmarks.predict``: the stock command ``nnUNetv2_predict_from_modelfolder`` in its own
process on our nnU-Net export, and ``labelferry predict``, one process an image, in turns. Rows:
``exact`` with torch in single precision, ``exact`` with the best engine, and ``fast`` with a
student that has voxels and a window of its own. Without ``--model`` and ``--student`` the weights
are random; ``--size`` gives phantoms, ``--image`` images. A part is timed in whatever process it
runs (``benchmarks/clock``); memory is the process tree's, shared pages divided (PSS).

The defaults are small: they run in a minute or two and say little about speed. The paper's sizes:
``--size 160,130,36@2.4,2.4,6 --size 320,260,72@1.2,1.2,3 --image MRI.nii.gz --patch 40,224,192
--channels 16 --downsamplings 4 --spacing 2.5,0.81,0.81 --student-spacing 2.5,2.5,2.5
--student-patch 48,128,160``. ``--accuracy TRUTH REFERENCE`` compares the student's DSC with that of
the same student trained at the paper's spacing; TRUTH holds label maps with the images' names. The
last line is the verdict, the exit code 1 where a row falls short.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import psutil
import torch

import labelferry
from benchmarks.predictmodels import make_image, nnunet_folder, random_bundle, window_work
from labelferry.predict.memory import MB, Meter, Sample, collect
from labelferry.segment.config import NetworkConfig
from labelferry.translate.precision import bf16_pays

CLOCK = Path(__file__).parent / "clock"
PARTS = ("read", "crop", "resample", "network", "accumulation", "export", "write")
AROUND = ("read", "crop", "resample", "export", "write")
EQUAL, DICE = 0.9999, 0.999
BEST_DICE, BEST_MEAN = 0.99, 0.995
AROUND_RATIO, MEMORY_SHARE = 5.0, 0.5
BEST_RATIO, PLAIN_RATIO = 2.8, 1.5
BF16_GAINS = 1.3
FAST_RATIO, FAST_SHARE, FAST_LOSS = 20.0, 0.25, 0.005


@dataclass(frozen=True)
class Run:
    """One process that labelled one image."""

    seconds: float
    cpu: float
    parts: dict[str, float]
    """Seconds."""
    parts_cpu: dict[str, float]
    start: float
    """Seconds until the model began to load: the interpreter and its imports."""
    loaded_mb: float
    peak_mb: float
    windows: int
    exported: int
    """Voxels of the network's grid whose scores became labels."""
    labels: np.ndarray = field(repr=False)

    @property
    def above_mb(self) -> float:
        return self.peak_mb - self.loaded_mb

    @property
    def around(self) -> float:
        return sum(self.parts_cpu[name] for name in AROUND)


def pss_mb(pid: int) -> float | None:
    """Memory of a process and its descendants; None where there is none (any more)."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0
    for member in family:
        try:
            found = member.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(found, "pss", found.uss)
    return total / MB or None


def run(command: list[str], labels: Path, threads: int) -> Run:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        source = Path(labelferry.__file__).parents[1]
        settings = {"PYTHONPATH": os.pathsep.join([str(CLOCK), str(source)]), "CLOCK": folder}
        if threads:
            settings |= {"OMP_NUM_THREADS": str(threads)}
        stop = threading.Event()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began, start = time.time(), time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        meter = Meter("resident", pss_mb)
        sampling = pool.submit(collect, meter, process.pid, start=start, interval=0.1, stop=stop)
        said, _ = process.communicate()
        seconds = time.perf_counter() - start
        stop.set()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{said.decode(errors='replace')[-3000:]}")
        lines = [
            json.loads(line)
            for path in Path(folder).glob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        return _gather(seconds, before, after, lines, began, sampling.result(), labels)


def _gather(
    seconds: float,
    before: resource.struct_rusage,
    after: resource.struct_rusage,
    lines: list[tuple[str, float, float, float, int]],
    began: float,
    samples: tuple[Sample, ...],
    labels: Path,
) -> Run:
    parts, parts_cpu, amounts = defaultdict(float), defaultdict(float), defaultdict(int)
    for part, wall, cpu, _, amount in lines:
        parts[part] += wall
        parts_cpu[part] += cpu
        amounts[part] += amount
    (load,) = (line for line in lines if line[0] == "load")
    loaded = load[3] - began
    return Run(
        seconds=seconds,
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        parts=parts,
        parts_cpu=parts_cpu,
        start=loaded - load[1],
        loaded_mb=max(s.mb for s in samples if s.seconds <= loaded),
        peak_mb=max(sample.mb for sample in samples),
        windows=amounts["network"],
        exported=amounts["export"],
        labels=np.asarray(nibabel.load(labels).dataobj),
    )


def stock(folder: Path, image: Path, work: Path, threads: int) -> Run:
    program = Path(sys.executable).parent / "nnUNetv2_predict_from_modelfolder"
    given = work / "in"
    given.mkdir()
    (given / "case_0000.nii.gz").symlink_to(image.resolve())
    command = [sys.executable, str(program), "-i", str(given), "-o", str(work / "out")]
    command += ["-m", str(folder), "-f", "0", "-device", "cpu", "--disable_tta"]
    return run([*command, "--disable_progress_bar"], work / "out" / "case.nii.gz", threads)


def ours(model: Path, image: Path, work: Path, threads: int, *more: str) -> Run:
    labels = work / f"{len(list(work.iterdir()))}.nii.gz"
    command = [sys.executable, "-m", "labelferry", "predict", str(image), str(labels)]
    return run([*command, "--model", str(model), "--device", "cpu", *more], labels, threads)


def dices(found: np.ndarray, expected: np.ndarray) -> list[float]:
    """DSC of each organ that either holds."""
    size = 1 + int(max(found.max(), expected.max()))
    a, b = (np.bincount(x.ravel(), minlength=size) for x in (found, expected))
    both = np.bincount(found[found == expected].ravel(), minlength=size)
    return [2 * both[c] / (a[c] + b[c]) for c in range(1, size) if a[c] + b[c]]


def fastest(action: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of several calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak(dtype: torch.dtype) -> float:
    """FLOP a second of a large matrix product, the best of several."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    return 2 * 2048**3 / fastest(lambda: a @ b, 12)


def bandwidth() -> float:
    """Bytes a second of a copy too large for the caches, read and written; the best of several."""
    a = torch.ones(2**26)
    b = torch.empty_like(a)
    return 2 * a.nbytes / fastest(lambda: b.copy_(a), 6)


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", help="x,y,z@mm,mm,mm of a phantom")
    parser.add_argument("--image", type=Path, action="append", default=[])
    parser.add_argument("--model", type=Path, help="a bundle, a run, or a folder of nnU-Net")
    parser.add_argument("--student", type=Path, help="a bundle or a run")
    parser.add_argument("--accuracy", type=Path, nargs=2, metavar=("TRUTH", "REFERENCE"))
    parser.add_argument("--spacing", type=numbers, default=(2.5, 1.6, 1.6), help="z,y,x mm")
    parser.add_argument("--patch", type=numbers, default=(16, 64, 64), help="z,y,x")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--downsamplings", type=int, default=2)
    parser.add_argument("--student-spacing", type=numbers, default=(5.0, 3.2, 3.2))
    parser.add_argument("--student-patch", type=numbers, default=(16, 48, 48))
    parser.add_argument("--student-channels", type=int, default=0, help="0: as --channels")
    parser.add_argument("--student-downsamplings", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--rows", default="exact,best,fast")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        sys.exit(compare(given, Path(name)))


def compare(given: argparse.Namespace, work: Path) -> int:
    paper = NetworkConfig(
        patch=given.patch, channels=given.channels, downsamplings=given.downsamplings
    )
    small = NetworkConfig(
        patch=given.student_patch,
        channels=given.student_channels or given.channels,
        downsamplings=given.student_downsamplings or given.downsamplings,
    )
    folder = nnunet_folder(
        given.model or random_bundle(work / "model", given.spacing, paper), work / "nnunet"
    )
    student = given.student or random_bundle(work / "student", given.student_spacing, small)
    images = list(given.image)
    sizes = given.size or ([] if images else ["96,80,24@2.4,2.4,6", "128,104,32@2.4,2.4,6"])
    images = [make_image(size, work / f"made{n}.nii.gz") for n, size in enumerate(sizes)] + images
    best = ["--engine", "auto", "--amp", "bf16" if bf16_pays(torch.device("cpu")) else "fp32"]
    rows = {
        "exact": (folder, ["--engine", "torch", "--amp", "fp32"]),
        "best": (folder, best),
        "fast": (student, ["--export", "fast"]),
    }
    rows = {name: row for name, row in rows.items() if name in given.rows.split(",")}
    runs: dict[str, list[Run]] = defaultdict(list)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch ", end="")
    print(f"{torch.__version__}, load {os.getloadavg()[0]:.1f}")
    for number, image in enumerate(images):
        place = work / f"case{number}"
        place.mkdir()
        shape = nibabel.load(image).shape
        print(f"\n{image.name} {'x'.join(str(n) for n in shape)}")
        runs["stock"].append(stock(folder, image, place, given.threads))
        _print("stock", runs["stock"][-1], runs["stock"][-1])
        for name, (model, more) in rows.items():
            runs[name].append(ours(model, image, place, given.threads, *more))
            _print(name, runs[name][-1], runs["stock"][-1])
    models = {"stock": folder, **{name: model for name, (model, _) in rows.items()}}
    gains = limits(models, runs)
    bad = verdicts(runs, trained=given.model is not None, gains=gains)
    if given.accuracy and "fast" in rows:
        lost = accuracy(runs["fast"], given, images, work)
        bad += [f"fast DSC lost {lost:.4f}"] if lost > FAST_LOSS else []
    print("FAIL: " + "; ".join(bad) if bad else "PASS")
    return 1 if bad else 0


def _print(name: str, run: Run, first: Run) -> None:
    print(f"{name:<6} {run.seconds:7.1f} s ({first.seconds / run.seconds:5.2f}x)  ", end="")
    print(f"CPU {run.cpu:7.1f} s ({first.cpu / run.cpu:5.2f}x)  start {run.start:4.1f} s  ", end="")
    print(
        f"+{run.above_mb:6.0f} MB on {run.loaded_mb:5.0f} MB ({run.above_mb / first.above_mb:.2f})"
    )
    print("       " + "  ".join(f"{part} {run.parts[part]:.2f}" for part in PARTS), end="")
    print("\n   CPU " + "  ".join(f"{part} {run.parts_cpu[part]:.2f}" for part in PARTS), end="")
    if run is not first and name != "fast":  # its weights are others
        equal = float(np.mean(run.labels == first.labels))
        found = dices(run.labels, first.labels) or [math.nan]
        print(f"\n       voxels equal {100 * equal:.4f} %, DSC least {min(found):.4f}", end="")
        print(f" mean {statistics.mean(found):.4f}; CPU around the network ", end="")
        print(f"{first.around / run.around:.1f}x", end="")
    print(flush=True)


def limits(models: dict[str, Path], runs: dict[str, list[Run]]) -> bool:
    """How far each part is from the machine's limit, and whether bf16 raises that.

    The network's limit is its convolutions. The sums have to read each window's scores, and read
    and write the sums; the export has to read each sum once and to write the labels.
    """
    peaks = {"fp32": peak(torch.float32), "bf16": peak(torch.bfloat16)}
    most, flow = max(peaks.values()), bandwidth()
    speeds = [f"{name} {v / 1e9:.0f} GFLOP/s" for name, v in peaks.items()]
    print("\nlimit: ", ", ".join([*speeds, f"{flow / 1e9:.1f} GB/s"]))
    for name, model in models.items():
        work = window_work(model)
        for number, one in enumerate(runs[name]):
            print(f"{name:<6} case {number}: {one.windows} windows of {work.flop / 1e9:.1f} GFLOP")
            scores = 4 * work.classes
            least = {
                "network": one.windows * work.flop / most,
                "accumulation": 3 * scores * work.voxels * one.windows / flow,
                "export": (scores * one.exported + one.labels.size) / flow,
            }
            for part, seconds in least.items():
                took = one.parts[part]
                share = 100 * seconds / took if took else math.nan
                print(f"       {part} {took:.2f} s, least {seconds:.2f} s ({share:.0f} %)")
    return peaks["bf16"] > BF16_GAINS * peaks["fp32"]


def accuracy(
    student: list[Run], given: argparse.Namespace, images: list[Path], work: Path
) -> float:
    """How much DSC the student loses against the reference, in the mean over organs and cases."""
    truths, model = given.accuracy
    found: dict[str, list[float]] = {"student": [], "reference": []}
    for number, (image, one) in enumerate(zip(images, student, strict=True)):
        truth = truths / image.name
        if not truth.exists():
            continue
        expected = np.asarray(nibabel.load(truth).dataobj)
        other = ours(model, image, work / f"case{number}", given.threads).labels
        for name, labels in (("student", one.labels), ("reference", other)):
            known = np.isin(labels, np.unique(expected))  # others are not annotated there
            found[name].append(statistics.mean(dices(labels * known, expected)))
    means = {name: statistics.mean(values) for name, values in found.items()}
    print("true DSC: ", ", ".join(f"{name} {100 * value:.2f}" for name, value in means.items()))
    return means["reference"] - means["student"]


def verdicts(runs: dict[str, list[Run]], trained: bool, gains: bool) -> list[str]:
    """What each row lacks: sums over the cases, the worst case's labels."""
    lacks = []

    def ask(row: str, what: str, seen: float, least: float) -> None:
        if not seen >= least:
            lacks.append(f"{row} {what} {seen:.4g} (asked {least:g})")

    first = runs["stock"]
    for name in [name for name in runs if name != "stock"]:
        pairs = list(zip(runs[name], first, strict=True))
        faster = sum(b.seconds for _, b in pairs) / sum(a.seconds for a, _ in pairs)
        share = max(a.above_mb / b.above_mb for a, b in pairs)
        same = min(float(np.mean(a.labels == b.labels)) for a, b in pairs)
        scores = [dices(a.labels, b.labels) or [1.0] for a, b in pairs]
        least, mean = min(map(min, scores)), min(map(statistics.mean, scores))
        if name == "exact":
            around = sum(b.around for _, b in pairs) / sum(a.around for a, _ in pairs)
            ask(name, "voxels equal", same, EQUAL)
            ask(name, "DSC", least, DICE)
            ask(name, "around the network", around, AROUND_RATIO)
            ask(name, "memory, inverse", 1 / share, 1 / MEMORY_SHARE)
            ask(name, "time", faster, 1.0)
        elif name == "best":
            ask(name, "time", faster, BEST_RATIO if gains else PLAIN_RATIO)
            if trained:
                ask(name, "DSC", least, BEST_DICE)
                ask(name, "mean DSC", mean, BEST_MEAN)
        else:
            ask(name, "time", faster, FAST_RATIO)
            ask(name, "memory, inverse", 1 / share, 1 / FAST_SHARE)
    return lacks


if __name__ == "__main__":
    main()
