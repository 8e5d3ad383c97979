"""What matching brings to the pseudo-labels of follower domains, before a network learns them.

``python -m benchmarks.followers RUN TRUTH``: RUN is a run folder whose ``match`` is done, TRUTH a
folder of true label maps ``<case>.nii.gz``. Dice score in per cent of the teacher's label and of
the label that matching leaves, mean over the organs that the truth shows and over cases: apart for
followers that have an anchor image of the same patient, and for those that have none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.separation import pair
from labelferry.evaluate.overlap import dice
from labelferry.files import read_json
from labelferry.match.neighbours import SAME, SAME_PATIENT
from labelferry.organs import OrganSet
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.runfile import read_run

STAGES = ("teach", "match")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    given = parser.parse_args()
    _, organs = read_run(given.run)
    print(f"{'followers':<28}{'n':>4}{'teacher':>9}{'matched':>9}{'gain':>7}")
    groups: dict[str, list[tuple[float, float]]] = {}
    for case in prepared_cases(given.run / "prepare", "target"):
        path = given.run / "match" / "provenance" / f"{case.id}.json"
        row = read_json(path, schema=1) if path.exists() else {"from": None}
        if row["from"] is None or not (given.truth / f"{case.id}.nii.gz").exists():
            continue
        who = SAME_PATIENT if row["how"] in SAME else "other patients alone"
        scores = [_score(given.run / stage, case, given.truth, organs) for stage in STAGES]
        for group in (f"{case.domain}, {who}", who, "all"):
            groups.setdefault(group, []).append((scores[0], scores[1]))
    for group in sorted(groups):
        before, after = np.mean(groups[group], axis=0)
        number = len(groups[group])
        print(f"{group:<28}{number:4}{before:9.1f}{after:9.1f}{after - before:+7.1f}")
    if not groups:
        print("no follower with a carried label and a truth")


def _score(stage: Path, case: PreparedCase, truth: Path, organs: OrganSet) -> float:
    true, found = pair(case, truth, stage / "labels", organs)
    present = [organ.id for organ in organs if (true == organ.id).any()]
    return 100 * float(np.mean([dice(true == k, found == k) for k in present]))


if __name__ == "__main__":
    main()
