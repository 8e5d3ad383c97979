"""How well the label-free measures tell good pseudo-labels from bad ones: ROC AUC.

``python -m benchmarks.separation RUN TRUTH``: RUN is a finished run folder, TRUTH a folder of true
label maps ``<case>.nii.gz``. One pseudo-label is one organ of one case, good from a Dice score of
0.5 on. Measures: plausibility z of the organ, and of the whole case; instability u of the organ
(eq. 7) where the run has two rounds of self-training or more; and sums of their ranks. What
neither the truth nor the pseudo-label shows, and what the prior does not judge, is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from labelferry.anatomy.prepare import prepare_labels
from labelferry.evaluate.overlap import dice
from labelferry.files import read_json
from labelferry.io.nifti import read_labels
from labelferry.organs import OrganSet
from labelferry.pipeline.plausible import read_plausibility
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.runfile import read_run
from labelferry.refine.instability import Instability
from labelferry.translate.faults import auc

GOOD = 0.5
STAGES = ("match", "teach")


@dataclass(frozen=True)
class Row:
    """One organ of one pseudo-label."""

    organ: int
    dice: float
    z: float
    case_z: float
    u: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument(
        "--stage", choices=("teach", "match", "refine"), help="whose labels; the last before refine"
    )
    given = parser.parse_args()
    stage = given.stage or next(s for s in STAGES if (given.run / s / "plausibility.json").exists())
    _, organs = read_run(given.run)
    cases, rows = read_rows(given.run, given.truth, stage, organs)
    good = np.array([row.dice >= GOOD for row in rows])
    print(f"{given.run.name}: labels of {stage}, {cases} volumes, {len(good)} labels", end="")
    print(f", {good.sum()} good")
    measures = measured(rows)
    print(f"{'AUC':<22}" + "".join(f"{name:>14}" for name in measures))
    _tell("all", good, measures)
    for organ in organs:
        chosen = np.array([row.organ == organ.id for row in rows])
        _tell(organ.name, good[chosen], {k: v[chosen] for k, v in measures.items()})
    if "u" not in measures:
        print("u is not there: the run has no two rounds of self-training")


def read_rows(run: Path, truth: Path, stage: str, organs: OrganSet) -> tuple[int, list[Row]]:
    """The number of volumes with truth, and their pseudo-labels organ by organ."""
    judged = read_plausibility(run / stage / "plausibility.json")
    unstable = _instabilities(run / "refine" / "selection.json")
    rows: list[Row] = []
    cases = [
        case
        for case in prepared_cases(run / "prepare", "target")
        if case.id in judged and (truth / f"{case.id}.nii.gz").exists()
    ]
    for case in cases:
        true, found = pair(case, truth, run / stage / "labels", organs)
        plausible, u = judged[case.id], unstable.get(case.id)
        for organ, part in plausible.organs.items():
            one, two = true == organ, found == organ
            if one.any() or two.any():
                rows.append(
                    Row(organ, dice(one, two), part.z, plausible.z, u.organs[organ] if u else None)
                )
    return len(cases), rows


def measured(rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    """Each measure of all rows; high is bad."""
    z = np.array([row.z for row in rows])
    case_z = np.array([row.case_z for row in rows])
    out = {"z": z, "case z": case_z, "z + case z": rankdata(z) + rankdata(case_z)}
    if rows and all(row.u is not None for row in rows):
        u = np.array([row.u for row in rows], float)
        out |= {"u": u, "z + u": rankdata(z) + rankdata(u)}
        out["z + case z + u"] = out["z + case z"] + rankdata(u)
    return out


def pair(
    case: PreparedCase, truth: Path, labels: Path, organs: OrganSet
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """True and pseudo-label of a case, on its working grid."""
    name = f"{case.id}.nii.gz"
    true = prepare_labels(read_labels(truth / name, organs), case.read(), case=case.id)
    return true.array, read_labels(labels / name, organs).array


def _instabilities(path: Path) -> dict[str, Instability]:
    if not path.exists():
        return {}
    rows = read_json(path, schema=1)["instability"]
    return {case: Instability.from_json(row) for case, row in rows.items()}


def _tell(name: str, good: NDArray[np.bool_], measures: Mapping[str, NDArray[np.float64]]) -> None:
    if not good.any() or good.all():
        print(f"{name:<22}" + "  all good" * bool(len(good) and good.all()) + f"  n={len(good)}")
        return
    scores = "".join(f"{auc(v[good], v[~good]):14.3f}" for v in measures.values())
    print(f"{name:<22}{scores}  n={len(good)}, {good.sum()} good")


if __name__ == "__main__":
    main()
