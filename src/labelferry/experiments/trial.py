"""A trial: what every row of the ablation is run on, and what it is scored with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelferry.errors import UserError
from labelferry.phantom.cohort import write_cohort


@dataclass(frozen=True)
class Trial:
    """One seed: cohorts, MRI to be scored, and their truth."""

    seed: int
    folder: Path
    """Holds the runs of this seed."""
    source: Path
    target: Path
    test: Path
    """MRI that are scored; no row learns from them."""
    truth: Path
    """True labels of ``test``."""
    target_truth: Path | None
    """True labels of the target cohort, for the oracle, and to check choices made without."""


def phantom_trials(
    folder: Path, seeds: Sequence[int], *, ct: int = 14, mri: int = 16, test: int = 5
) -> tuple[Trial, ...]:
    """A phantom cohort of its own for each seed, made where it is not there yet."""
    trials = []
    for seed in seeds:
        cohort = folder / f"seed{seed}" / "cohort"
        write_cohort(cohort, ct=ct, mri=mri, test=test, seed=seed, workers=2)
        trials.append(
            Trial(
                seed,
                folder / f"seed{seed}",
                cohort / "source",
                cohort / "target",
                cohort / "test",
                cohort / "truth" / "test",
                cohort / "truth" / "target",
            )
        )
    return tuple(trials)


def cohort_trials(
    folder: Path,
    seeds: Sequence[int],
    *,
    source: Path,
    target: Path,
    test: Path,
    truth: Path,
    target_truth: Path | None,
) -> tuple[Trial, ...]:
    """The same cohort for every seed: what differs is the training's randomness."""
    for path in (source, target, test, truth, *([target_truth] if target_truth else [])):
        if not path.exists():
            raise UserError("no such file or folder", path=path)
    return tuple(
        Trial(seed, folder / f"seed{seed}", source, target, test, truth, target_truth)
        for seed in seeds
    )
