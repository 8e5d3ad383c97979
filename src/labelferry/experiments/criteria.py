"""What is seen of teachers without truth: the criteria by which one of them can be chosen.

Everything here is computed from pseudo-labels and the source's prior. No truth can be reached
through a :class:`Teacher`, and no function takes any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from labelferry.errors import UserError
from labelferry.evaluate.agreement import Labels, mean_agreement, others_vote
from labelferry.files import hash_value, read_json, write_json
from labelferry.io.nifti import read_labels
from labelferry.organs import OrganSet
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.plausible import read_plausibility
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.prior.plausibility import CAP, CasePlausibility
from labelferry.volume import Segmentation, bounding_box, resample_labels

FEWEST = 3
"""Teachers of one seed below which there is no consensus, and no choice."""
REVISION = 1
"""Raised when a criterion is computed in another way."""
_WORST = 2 * CAP
"""The largest z there is: of an organ of absurd size at an absurd place."""
Values = Mapping[str, float | None]
"""Of each teacher, by its row's key. Higher is better; None where it is undefined."""


@dataclass(frozen=True)
class Teacher:
    """A trained teacher as its pseudo-labels of the target show it."""

    row: str
    """Key of its row."""
    cases: tuple[PreparedCase, ...]
    """The target: the same of all teachers of one seed."""
    labels: Path
    """Holds ``<case>.nii.gz`` on the working grid; a case that failed has none."""
    plausibility: Mapping[str, CasePlausibility]
    """Of every case that has a label map."""

    def read(self, case: PreparedCase, organs: OrganSet) -> Segmentation | None:
        """Its pseudo-label of a case; None where it has none."""
        path = self.labels / f"{case.id}.nii.gz"
        return read_labels(path, organs) if path.exists() else None


def read_teacher(run: Path, row: str) -> Teacher:
    """The teacher of a run folder whose stage ``teach`` is done."""
    return Teacher(
        row,
        prepared_cases(run / "prepare", "target"),
        run / "teach" / "labels",
        read_plausibility(run / "teach" / "plausibility.json"),
    )


def criteria(teachers: Sequence[Teacher], organs: OrganSet) -> dict[str, Values]:
    """Every criterion of the teachers of one seed, by its name.

    Raises ``UserError`` with fewer than :data:`FEWEST` teachers.
    """
    if len(teachers) < FEWEST:
        raise UserError("a choice needs three teachers", seen=len(teachers))
    alone: dict[str, Values] = {
        "plausibility": {teacher.row: plausible(teacher) for teacher in teachers},
        "organs found": {teacher.row: found(teacher) for teacher in teachers},
        "sequences agree": {teacher.row: sequences_agree(teacher, organs) for teacher in teachers},
        **consensus(teachers, organs),
    }
    together = (("plausibility", "sequences agree"), ("plausibility", "teachers agree"))
    return alone | {
        " + ".join(names): mean_rank([alone[name] for name in names]) for names in together
    }


def plausible(teacher: Teacher) -> float | None:
    """Minus the mean over cases of z against the prior; None without any case.

    A case without a label map, or one that could not be judged, counts as the largest z there is.
    """
    z = [_z(teacher, case) for case in teacher.cases]
    return -float(np.mean(z)) if z else None


def found(teacher: Teacher) -> float | None:
    """Mean over cases of the share of the organs looked for that are there, in [0, 1].

    Looked for are the organs that most source cases have, and those that are there.
    """
    shares = []
    for case in teacher.cases:
        judged = teacher.plausibility.get(case.id)
        if judged is None:
            shares.append(0.0)
        elif judged.organs:
            shares.append(1 - len(judged.missing) / len(judged.organs))
    return float(np.mean(shares)) if shares else None


def sequences_agree(teacher: Teacher, organs: OrganSet) -> float | None:
    """Mean Dice between the sequences of one patient, each pair on the grid of its first.

    The mean over pairs of the mean over organs. Where the patient moved between two sequences all
    teachers lose alike. None where no patient has two.
    """
    patients: dict[str, list[PreparedCase]] = {}
    for case in teacher.cases:
        patients.setdefault(case.patient, []).append(case)
    scores = []
    for cases in patients.values():
        for one, other in combinations(cases, 2):
            a, b = teacher.read(one, organs), teacher.read(other, organs)
            if a is None or b is None:
                scores.append(0.0)
            else:
                # two empty label maps agree about nothing
                scores.append(mean_agreement(a.array, resample_labels(b, a.grid).array) or 0.0)
    return float(np.mean(scores)) if scores else None


def consensus(teachers: Sequence[Teacher], organs: OrganSet) -> dict[str, Values]:
    """Mean Dice of each teacher with the others: with their vote, and with each of them in turn.

    Called ``consensus`` and ``teachers agree``. Each is the mean over cases of the mean over the
    organs that either side holds. A teacher without a label map of a case counts as one that found
    nothing; a case in which neither side found anything is left out.
    """
    rows = [teacher.row for teacher in teachers]
    voted: dict[str, list[float]] = {row: [] for row in rows}
    paired: dict[str, list[float]] = {row: [] for row in rows}
    for case in teachers[0].cases:
        maps = _maps(teachers, case, organs)
        for row, own, vote in zip(rows, maps, others_vote(maps), strict=True):
            _add(voted[row], mean_agreement(own, vote))
        for one, other in combinations(range(len(rows)), 2):
            score = mean_agreement(maps[one], maps[other])
            for row in (rows[one], rows[other]):
                _add(paired[row], score)
    return {"consensus": _means(voted), "teachers agree": _means(paired)}


def mean_rank(several: Sequence[Values]) -> Values:
    """The mean over criteria of a teacher's rank among all, in (0, 1], the best 1; ties share.

    None for a teacher that any of the criteria leaves undefined.
    """
    rows = [row for row in several[0] if all(values[row] is not None for values in several)]
    ranks = [
        stats.rankdata([values[row] for row in rows]) / max(1, len(rows)) for values in several
    ]
    mean = dict(zip(rows, np.mean(ranks, axis=0).tolist(), strict=True))
    return {row: mean.get(row) for row in several[0]}


def _z(teacher: Teacher, case: PreparedCase) -> float:
    judged = teacher.plausibility.get(case.id)
    return _WORST if judged is None else min(_WORST, judged.z)


def _maps(teachers: Sequence[Teacher], case: PreparedCase, organs: OrganSet) -> list[Labels]:
    """The label maps of a case in the box that holds all that any of them found."""
    read = [teacher.read(case, organs) for teacher in teachers]
    there = [one.array for one in read if one is not None]
    if not there:
        return [np.zeros((1, 1, 1), np.uint8)] * len(read)
    box = bounding_box(np.any(there, axis=0)).slices
    nothing = np.zeros_like(there[0][box])
    return [nothing if one is None else one.array[box] for one in read]


def _add(values: list[float], value: float | None) -> None:
    if value is not None:
        values.append(value)


def _means(scores: Mapping[str, Sequence[float]]) -> Values:
    return {row: float(np.mean(values)) if values else None for row, values in scores.items()}


def write_criteria(path: Path, runs: Mapping[str, Path], organs: OrganSet) -> None:
    """Write the criteria of the teachers of one seed; what is unchanged is not judged again.

    ``runs``: the run folder of each row's teacher, by the row's key. With fewer than
    :data:`FEWEST` nothing is written, and what was written for others is removed.
    """
    if len(runs) < FEWEST:
        path.unlink(missing_ok=True)
        return
    mark = hash_value([REVISION, {row: _output_hash(run) for row, run in runs.items()}])
    if path.exists() and read_json(path, schema=1)["mark"] == mark:
        return
    values = criteria([read_teacher(run, row) for row, run in runs.items()], organs)
    write_json(path, {"schema_version": 1, "mark": mark, "criteria": values})


def read_criteria(path: Path) -> dict[str, Values]:
    """Every criterion by its name, as written; nothing where there is no file."""
    if not path.exists():
        return {}
    found: dict[str, Values] = read_json(path, schema=1)["criteria"]
    return found


def _output_hash(run: Path) -> str:
    manifest = Manifest.read(run / "teach")
    assert manifest is not None, "the teacher is trained before"
    return manifest.output_hash
