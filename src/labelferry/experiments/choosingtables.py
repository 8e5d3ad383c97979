"""The choice without labels as tables: what the criteria saw, chose, and what truth says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labelferry.evaluate.results import read_evaluation
from labelferry.experiments.ablation import criteria_path, validation_path
from labelferry.experiments.choosing import (
    CRITERION,
    Correlation,
    Judged,
    Known,
    best,
    choose,
    correlate,
    means_over,
)
from labelferry.experiments.criteria import Values, read_criteria
from labelferry.experiments.formats import WordTable
from labelferry.experiments.tables import RowResult
from labelferry.experiments.trial import Trial
from labelferry.files import csv_text
from labelferry.report.words import ABSENT, number, percent

TRUTH = "truth (validation DSC)"


@dataclass(frozen=True)
class Study:
    """The teachers of all seeds, judged without truth and with it; the two in one order."""

    names: dict[str, str]
    """Of each teacher's row, by its key."""
    judged: tuple[Judged, ...]
    known: tuple[Known, ...]

    @property
    def criteria(self) -> tuple[str, ...]:
        """The names of the criteria."""
        return tuple(dict.fromkeys(name for one in self.judged for name in one.criteria))

    def of(self, criterion: str) -> list[Values]:
        """A criterion, seed by seed."""
        return [one.criteria.get(criterion, {}) for one in self.judged]

    @property
    def validation(self) -> list[Values]:
        """Mean DSC on the target cohort, seed by seed."""
        return [one.validation for one in self.known]

    @property
    def test(self) -> list[Values]:
        """Mean DSC outside the target cohort, seed by seed."""
        return [one.test for one in self.known]


def read_study(results: Sequence[RowResult], trials: Sequence[Trial]) -> Study | None:
    """What was written of the teachers; None where no seed has enough of them for a choice."""
    teachers = [result for result in results if result.row.stage == "teach"]
    judged, known = [], []
    for trial in trials:
        criteria = read_criteria(criteria_path(trial))
        if not criteria:
            continue
        judged.append(Judged(trial.seed, criteria))
        test = {
            result.row.key: result.seeds[trial.seed].mean.dsc
            for result in teachers
            if trial.seed in result.seeds
        }
        known.append(Known(trial.seed, _validation(teachers, trial), test))
    if not judged:
        return None
    names = {result.row.key: result.row.name for result in teachers}
    return Study(names, tuple(judged), tuple(known))


def _validation(teachers: Sequence[RowResult], trial: Trial) -> Values:
    paths = {result.row.key: validation_path(trial, result.row) for result in teachers}
    return {key: read_evaluation(path).mean.dsc for key, path in paths.items() if path.exists()}


def study_tables(study: Study) -> tuple[WordTable, ...]:
    """What is chosen, how well criteria and truth agree, and the teachers one by one."""
    return choice_table(study), agreement_table(study), teacher_table(study)


def choice_table(study: Study) -> WordTable:
    """What each criterion chooses, and what that costs beside the choice of truth."""
    validation, test = means_over(study.validation), means_over(study.test)
    by_truth = best(study.validation)
    picks = {name: choose(study.judged, name) for name in study.criteria} | {TRUTH: by_truth}
    lines = []
    for name, pick in picks.items():
        seeds = study.validation if name == TRUTH else study.of(name)
        lines.append(
            (
                _decides(name),
                _name(study, pick),
                percent(validation.get(pick or "")),
                percent(test.get(pick or "")),
                _points(_regret(test, by_truth, pick)),
                " / ".join(_points(one) for one in _regrets(study, seeds)),
            )
        )
    return WordTable(
        "Choosing the training images without labels",
        ("criterion", "chooses", "validation DSC %", "test DSC %", "regret", "regret of each seed"),
        tuple(lines),
        f"Criteria see pseudo-labels of the target cohort and the source's prior, no truth; "
        f"'{CRITERION}' decides. Chosen is the largest mean over seeds. Regret: test DSC of "
        "truth's choice minus that of this choice, in points; truth chooses by the DSC of the "
        "pseudo-labels against the target's true labels, which no user has.",
    )


def agreement_table(study: Study) -> WordTable:
    """Spearman's rho of each criterion with the true scores."""
    lines = []
    for name in study.criteria:
        beside = [correlate(study.of(name), truth) for truth in (study.validation, study.test)]
        lines.append((_decides(name), *(cell for one in beside for cell in _rhos(one))))
    lines.append((TRUTH, *[ABSENT] * 3, *_rhos(correlate(study.validation, study.test))))
    teachers = max(correlate(study.of(name), study.test).teachers for name in study.criteria)
    head = ("ρ {}", "ρ {} within seeds", "ρ {} of each seed")
    return WordTable(
        "Do the criteria rank teachers as truth does?",
        ("criterion", *(text.format(what) for what in ("validation", "test") for text in head)),
        tuple(lines),
        f"Spearman's rank correlation over {teachers} teachers with their true mean DSC on the "
        "target cohort (validation) and on other patients (test); 'within seeds' ranks the "
        "teachers of each seed first.",
    )


def _rhos(found: Correlation) -> tuple[str, str, str]:
    each = " / ".join(number(rho) for rho in found.seeds)
    return number(found.raw), number(found.within), each


def teacher_table(study: Study) -> WordTable:
    """Every teacher: its criteria and its true scores, as means over seeds."""
    criteria = [means_over(study.of(name)) for name in study.criteria]
    validation, test = means_over(study.validation), means_over(study.test)
    return WordTable(
        "Teachers by criterion",
        ("row", *study.criteria, "validation DSC %", "test DSC %"),
        tuple(
            (
                name,
                *(number(values.get(key), 3) for values in criteria),
                percent(validation.get(key)),
                percent(test.get(key)),
            )
            for key, name in study.names.items()
        ),
        "Means over seeds. For every criterion, higher is better.",
    )


def choice_text(study: Study) -> str:
    """The choice without labels, and the choice of truth, in a line."""
    chosen, by_truth = choose(study.judged), best(study.validation)
    text = f"chosen without labels ({CRITERION}): {_name(study, chosen)}"
    return text if by_truth is None else f"{text}; truth would choose {_name(study, by_truth)}"


def study_csv(study: Study) -> str:
    """One line for each teacher and seed."""
    header = ("row", "seed", *study.criteria, "validation_dsc", "test_dsc")
    lines = [
        (
            key,
            judged.seed,
            *(judged.criteria.get(name, {}).get(key) for name in study.criteria),
            known.validation.get(key),
            known.test.get(key),
        )
        for judged, known in zip(study.judged, study.known, strict=True)
        for key in study.names
    ]
    return csv_text(header, lines)


def _regrets(study: Study, seen: Sequence[Values]) -> list[float | None]:
    """The regret of a choice made on each seed alone."""
    return [
        _regret(dict(known.test), best([known.validation]), best([one]))
        for known, one in zip(study.known, seen, strict=True)
    ]


def _regret(test: Values, by_truth: str | None, pick: str | None) -> float | None:
    ideal, mine = test.get(by_truth or ""), test.get(pick or "")
    return None if ideal is None or mine is None else ideal - mine


def _points(value: float | None) -> str:
    return percent(value, sign=True)


def _decides(name: str) -> str:
    return f"{name} (decides)" if name == CRITERION else name


def _name(study: Study, key: str | None) -> str:
    return ABSENT if key is None else study.names.get(key, key)
