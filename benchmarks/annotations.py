"""Labels of which each annotates half of the organs, against labels of all of them.

``python -m benchmarks.annotations OUT``: for every seed a phantom cohort in OUT (that of
``labelferry ablate OUT``, if one is there), and three teachers of equal steps on its CT:

* ``full``: every label map annotates every organ;
* ``half``: every second CT annotates every second organ, the others the others; what a label does
  not annotate is unknown, and completed first by a network of as many steps (``teach.complete``);
* ``background``: the label maps of ``half``, with what they do not annotate taken for background.

Prints the mean Dice score of each teacher in per cent on MRI of patients that no teacher saw, and
the verdict: ``half`` within 3 points of ``full`` and above ``background``, as means over seeds.
What is there already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path

import numpy as np

from labelferry.evaluate.folder import evaluate
from labelferry.experiments.trial import Trial, phantom_trials
from labelferry.files import csv_text, write_text
from labelferry.io.nifti import read_labels, write_volume
from labelferry.organs import FLARE
from labelferry.pipeline.chain import adapt
from labelferry.pipeline.config import load_config
from labelferry.predict.files import predict_files
from labelferry.predict.predictor import load_model

HALVES = tuple(frozenset(organ.id for organ in list(FLARE)[start::2]) for start in (0, 1))
WAYS = ("full", "half", "background")
ALLOWED = 3.0
"""Points of Dice that ``half`` may lose."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", default="demo")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    scores = np.empty((given.seeds, len(WAYS)))
    print(f"{'seed':<6}" + "".join(f"{way:>12}" for way in WAYS))
    trials = phantom_trials(given.out, range(1, given.seeds + 1))
    for row, trial in zip(scores, trials, strict=True):
        row[:] = [teacher(trial, way, given.size, given.overrides) for way in WAYS]
        print(f"{trial.seed:<6}" + "".join(f"{dsc:12.1f}" for dsc in row), flush=True)
    full, half, background = scores.mean(axis=0)
    print(f"{'mean':<6}{full:12.1f}{half:12.1f}{background:12.1f}")
    passed = half >= full - ALLOWED and half > background
    print("PASS" if passed else "FAIL", f"half - full {half - full:+.1f} (at least {-ALLOWED})")
    sys.exit(0 if passed else 1)


def teacher(trial: Trial, way: str, size: str, overrides: list[str]) -> float:
    """The mean Dice score of the teacher that learns from labels of one way."""
    folder = trial.folder / "annotations" / way
    source = trial.source if way == "full" else halved(trial.source, folder / "source", way)
    run, predictions = folder / "run", folder / "predictions"
    fixed = (f"seed={trial.seed}", *overrides)
    adapt(run, source, trial.target, size=size, overrides=fixed, until="teach")
    config = load_config("default", size, fixed)
    model = load_model(run / "teach" / "model", device=config.device, config=config.predict)
    images = sorted((trial.test / "images").glob("*.nii.gz"))
    failures = predict_files(model, images, predictions, overwrite=False)
    if failures:
        sys.exit(f"{failures[0].reason}")
    return 100 * evaluate(predictions, trial.truth).mean.dsc


def halved(source: Path, out: Path, way: str) -> Path:
    """A copy of a source whose label maps hold one half of the organs or the other."""
    if (out / "cohort.csv").exists():
        return out
    with (source / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        kept = HALVES[number % 2]
        for name in (row["image"], row["label"]):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / row["image"], out / row["image"])
        labels = read_labels(source / row["label"], FLARE)
        left = np.where(np.isin(labels.array, list(kept)), labels.array, 0)
        write_volume(out / row["label"], labels.with_array(left.astype(labels.array.dtype)))
        if way == "half":
            row["annotated"] = ";".join(str(organ) for organ in sorted(kept))
    write_text(out / "cohort.csv", csv_text(list(rows[0]), (list(row.values()) for row in rows)))
    return out


if __name__ == "__main__":
    main()
