"""``labelferry evaluate`` against the challenge's own way of scoring: time and memory.

    python -m benchmarks.evaluate [--json FILE] [--repeats N] [--cases small large]

Each side scores the same two label maps of 13 organs by the rules of ``flare24``: ours with its
HD95 and volumes, the other one organ by organ with the package ``surface-distance`` (the algorithm
of the official script) on the whole arrays, which it crops itself. Every measurement is a process
of its own; the sides take turns, and the least of the repeats counts: of the wall clock, and of the
CPU's, which other work on the machine troubles less. Two ways of each are measured: ``arrays``,
from label maps in memory, and ``files``, from compressed NIfTI files as either one reads them.
Memory is the peak of the resident set above what it was with the inputs loaded (``arrays``) or the
packages imported (``files``). The scores of both sides must agree to 1e-4, or the run ends with an
error.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]
Scores = dict[str, tuple[float, float]]

CASES: dict[str, tuple[tuple[int, int, int], tuple[float, float, float]]] = {
    "small": ((320, 260, 72), (1.2, 1.2, 3.0)),
    "large": ((512, 512, 200), (0.7, 0.7, 1.0)),
}
"""Shape, and spacing in mm, of each case."""
SIDES = ("labelferry", "official")
WAYS = ("arrays", "files")
_COARSE_MM = (1.6, 1.6, 2.0)


def make_case(name: str, folder: Path) -> dict[str, float]:
    """Write a true and a predicted label map as .nii.gz and .npy; returns the DSC of each organ."""
    import nibabel

    from labelferry.phantom.anatomy import draw_subject
    from labelferry.phantom.frame import PhantomGrid

    shape, spacing = CASES[name]
    grid = PhantomGrid.of_spacing(_COARSE_MM)
    rng = np.random.default_rng(11)
    subject = next(s for s in iter(lambda: draw_subject(rng, grid), None) if not s.absent)
    factor = np.divide(grid.spacing, spacing)
    maps = [np.zeros(shape, np.uint8, order="F") for _ in range(2)]
    for organ in range(1, 14):
        _paint(maps, subject.labels.array == organ, organ, factor, rng)
    # the island that networks like to draw: a spleen where none is
    maps[1][-40:-30, -40:-30, -20:-12] = 3
    for which, labels in zip(("truth", "prediction"), maps, strict=True):
        np.save(folder / f"{which}.npy", labels)
        image = nibabel.Nifti1Image(labels, np.diag([*spacing, 1.0]))
        nibabel.save(image, folder / f"{which}.nii.gz")
    found = {}
    for organ in range(1, 14):
        true, predicted = (labels == organ for labels in maps)
        found[str(organ)] = 2 * float((true & predicted).sum()) / int(true.sum() + predicted.sum())
    return found


def _paint(
    maps: list[Labels],
    mask: NDArray[np.bool_],
    organ: int,
    factor: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Enlarge an organ into both maps; into the second with a surface that is moved at random."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    wide = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in box)
    start = [round(s.start * f) for s, f in zip(wide, factor, strict=True)]
    inside = ndimage.gaussian_filter(mask[wide].astype(np.float32), 0.7)
    noise = ndimage.gaussian_filter(rng.normal(size=inside.shape), 3.0)
    noise *= 0.22 / noise.std()
    for labels, field in zip(maps, (inside, inside + noise * (inside > 0.02)), strict=True):
        fine = ndimage.zoom(field, factor, order=1) > 0.5
        place = tuple(
            slice(first, min(first + size, whole))
            for first, size, whole in zip(start, fine.shape, labels.shape, strict=True)
        )
        part = labels[place]
        part[fine[tuple(slice(0, size) for size in part.shape)]] = organ


def ours(way: str, folder: Path) -> Callable[[], Scores]:
    """Load what ``way`` asks for; what is returned is timed."""
    from labelferry.evaluate.flare24 import flare24
    from labelferry.evaluate.folder import evaluate
    from labelferry.organs import FLARE
    from labelferry.volume import Grid, Segmentation

    def scores(found: Any) -> Scores:
        return {str(FLARE.named(name).id): (s.dsc, s.nsd) for name, s in found.items()}

    if way == "files":
        pair = folder / "prediction.nii.gz", folder / "truth.nii.gz"
        return lambda: scores(evaluate(*pair, protocol="flare24").cases[0].organs)
    spacing = np.load(folder / "spacing.npy")
    truth, prediction = (np.load(folder / f"{name}.npy") for name in ("truth", "prediction"))
    grid = Grid(truth.shape, np.diag([*spacing, 1.0]))
    pair = Segmentation(prediction, grid), Segmentation(truth, grid)
    return lambda: scores(flare24(*pair, FLARE.ids, FLARE))


def official(way: str, folder: Path) -> Callable[[], Scores]:
    """The same by the rules of the script, with the package's functions."""
    import nibabel
    import surface_distance as sd

    from labelferry.organs import FLARE

    def score(truth: Labels, prediction: Labels, spacing: Any) -> Scores:
        found = {}
        for organ in FLARE:
            true, predicted = truth == organ.id, prediction == organ.id
            if organ.tube:
                layers = np.flatnonzero(true.any(axis=(0, 1)))
                part = np.s_[:, :, layers[0] : layers[-1]]
                true, predicted = true[part], predicted[part]
            dsc = sd.compute_dice_coefficient(true, predicted)
            distances = sd.compute_surface_distances(true, predicted, spacing)
            nsd = sd.compute_surface_dice_at_tolerance(distances, organ.tolerance_mm)
            found[str(organ.id)] = (round(float(dsc), 4), round(float(nsd), 4))
        return found

    def from_files() -> Scores:
        truth = nibabel.load(folder / "truth.nii.gz")
        prediction = nibabel.load(folder / "prediction.nii.gz")
        arrays = np.uint8(truth.get_fdata()), np.uint8(prediction.get_fdata())
        return score(*arrays, truth.header.get_zooms())

    if way == "files":
        return from_files
    spacing = tuple(np.load(folder / "spacing.npy"))
    truth, prediction = (np.load(folder / f"{name}.npy") for name in ("truth", "prediction"))
    return lambda: score(truth, prediction, spacing)


def measure(side: str, way: str, folder: Path) -> dict[str, Any]:
    """One measurement, in this process: seconds, MiB above the start, and the scores."""
    warnings.simplefilter("ignore")
    work = {"labelferry": ours, "official": official}[side](way, folder)
    before = psutil.Process().memory_info().rss
    start, start_cpu = time.perf_counter(), time.process_time()
    scores = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    mib = (_peak_bytes() - before) / 2**20
    return {"seconds": seconds, "cpu_seconds": cpu, "mib": mib, "scores": scores}


def _peak_bytes() -> int:
    """The largest resident set that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would tell that of the parent, too
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(words[1]) * 1024 for words in lines if words[0] == "VmHWM:")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def compare(name: str, repeats: int) -> dict[str, Any]:
    """Both sides on one case, taking turns."""
    result: dict[str, Any] = {"shape": CASES[name][0], "spacing_mm": CASES[name][1]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        result["dsc"] = make_case(name, folder)
        # as a header holds it
        np.save(folder / "spacing.npy", np.array(CASES[name][1], np.float32).astype(float))
        for way in WAYS:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for _ in range(repeats):
                for side in SIDES:
                    runs[side].append(_in_a_process(side, way, folder))
            result[way] = _summary(runs)
    return result


def _in_a_process(side: str, way: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.evaluate", "--measure", side, way, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    mine, other = (np.array(list(runs[side][0]["scores"].values())) for side in SIDES)
    apart = float(np.abs(mine - other).max())
    if not apart <= 1e-4:
        raise SystemExit(f"the two sides disagree by {apart}: {mine.tolist()}, {other.tolist()}")
    best = {
        side: {key: min(run[key] for run in of) for key in ("seconds", "cpu_seconds", "mib")}
        for side, of in runs.items()
    }
    return {
        **best,
        "faster": best["official"]["seconds"] / best["labelferry"]["seconds"],
        "faster_cpu": best["official"]["cpu_seconds"] / best["labelferry"]["cpu_seconds"],
        "less_memory": best["official"]["mib"] / best["labelferry"]["mib"],
        "largest_difference": apart,
    }


def main() -> None:
    """Run, print the ratios, and write them where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        side, way, folder = options.measure
        print(json.dumps(measure(side, way, Path(folder))))
        return
    results = {name: compare(name, options.repeats) for name in options.cases}
    titles = ("labelferry", "official way", "faster", "(CPU)", "less memory")
    print(f"{'case':<14}{'from':<8}" + "".join(f"{title:>18}" for title in titles))
    for result in results.values():
        shape = "×".join(map(str, result["shape"]))
        for way in WAYS:
            row = result[way]
            cells = [f"{row[s]['seconds']:.2f} s {row[s]['mib']:.0f} MiB" for s in SIDES]
            cells += [f"{row[key]:.1f}×" for key in ("faster", "faster_cpu", "less_memory")]
            print(f"{shape:<14}{way:<8}" + "".join(f"{cell:>18}" for cell in cells))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
