"""What the ablation found: the paper's Tables 5, 6, 7 and 9 on the rows that were run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from labelferry.evaluate.results import Evaluation, read_evaluation
from labelferry.evaluate.scores import SHARES, CaseScores, Score
from labelferry.evaluate.statistics import (
    Comparison,
    Interval,
    compare_cases,
    interval,
    spread,
)
from labelferry.experiments.ablation import scores_path
from labelferry.experiments.formats import WordTable
from labelferry.experiments.rows import Row
from labelferry.experiments.trial import Trial
from labelferry.files import csv_text
from labelferry.report.words import ABSENT, percent, span
from labelferry.spread import Spread


@dataclass(frozen=True)
class RowResult:
    """The scores of a row over all seeds."""

    row: Row
    seeds: Mapping[int, Evaluation]
    shared_patients: bool
    """Whether every seed scores the same patients; else each seed has its own."""

    @cached_property
    def cases(self) -> tuple[CaseScores, ...]:
        """All cases, named so that no two seeds share one."""
        return tuple(
            replace(
                case,
                case=f"seed{seed}/{case.case}",
                patient=case.owner if self.shared_patients else f"seed{seed}/{case.owner}",
            )
            for seed, evaluation in self.seeds.items()
            for case in evaluation.cases
        )

    def interval(self, metric: str, organ: str | None = None) -> Interval:
        """Mean and 95 % bootstrap interval over patients."""
        return interval(self.cases, metric, organ=organ)

    def spread(self, metric: str, organ: str | None = None) -> Spread:
        """Mean, SD and quartiles over cases."""
        return spread(self.cases, metric, organ=organ)

    def against(self, other: RowResult, metric: str) -> Comparison:
        """This row minus another, paired by case."""
        return compare_cases(other.cases, self.cases, metric)

    @cached_property
    def domains(self) -> dict[str, float | None]:
        """Mean DSC of each domain, over seeds."""
        first = next(iter(self.seeds.values()))
        pooled = replace(first, cases=self.cases)
        return {name: score.dsc for name, (score, _) in pooled.domains.items()}


def read_results(
    rows: Sequence[Row], trials: Sequence[Trial], *, shared_patients: bool
) -> tuple[RowResult, ...]:
    """The rows that were scored, in their order."""
    found = []
    for row in rows:
        paths = {trial.seed: scores_path(trial, row) for trial in trials}
        seeds = {seed: read_evaluation(path) for seed, path in paths.items() if path.exists()}
        if seeds:
            found.append(RowResult(row, seeds, shared_patients))
    return tuple(found)


def main_tables(results: Sequence[RowResult], title: str) -> tuple[WordTable, ...]:
    """The rows beside each other, the main table first."""
    if not results:
        return ()
    return (
        main_table(results, title),
        step_table(results),
        seeds_table(results),
        domain_table(results),
    )


def organ_tables(results: Sequence[RowResult]) -> tuple[WordTable, ...]:
    """Organ by organ: means and quartiles."""
    if not results:
        return ()
    organs = next(iter(results[-1].seeds.values())).organ_names
    per_organ = [organ_table(results, organs, metric) for metric in SHARES]
    quartiles = [quartile_table(results, organs, metric) for metric in SHARES]
    return (*per_organ, *quartiles)


def main_table(results: Sequence[RowResult], title: str) -> WordTable:
    """Means with intervals, the step from another row, and the paper's numbers where it has any."""
    printed = any(result.row.paper for result in results)
    lines = []
    for result in results:
        other = first_other(result, results)
        step = result.against(other, "dsc") if other else None
        lines.append(
            (
                result.row.name,
                _interval(result.interval("dsc")),
                _interval(result.interval("nsd")),
                _step(step) + (f" {other.row.name}" if other else ""),
                *(_paper(result.row) if printed else ()),
            )
        )
    return WordTable(
        title,
        (
            *("row", "DSC %", "NSD %", "DSC against"),
            *(("paper DSC", "paper NSD") if printed else ()),
        ),
        tuple(lines),
        "Mean over organs of the mean over cases, all seeds pooled; in brackets 95 % bootstrap "
        "intervals over patients." + (" The paper's numbers are of other data." if printed else ""),
    )


def _paper(row: Row) -> tuple[str, str]:
    return (f"{row.paper.dsc:.1f}", f"{row.paper.nsd:.1f}") if row.paper else (ABSENT, ABSENT)


def first_other(result: RowResult, results: Sequence[RowResult]) -> RowResult | None:
    """The first of the rows that a row is compared with and that was run."""
    by_key = {other.row.key: other for other in results}
    return next((by_key[key] for key in result.row.against if key in by_key), None)


def step_table(results: Sequence[RowResult]) -> WordTable:
    """What each row gains on the rows that it is compared with, paired by case."""
    by_key = {result.row.key: result for result in results}
    lines = []
    for result in results:
        for key in result.row.against:
            if key not in by_key:
                continue
            other = by_key[key]
            dsc, nsd = (result.against(other, metric) for metric in SHARES)
            each = (f"{_difference(result, other, seed)}" for seed in sorted(result.seeds))
            name = f"{other.row.name} → {result.row.name}"
            lines.append((name, _step(dsc), _p(dsc), _step(nsd), " / ".join(each)))
    return WordTable(
        "Steps",
        ("from → to", "DSC", "p", "NSD", "DSC of each seed"),
        tuple(lines),
        "Differences in points, paired by case, with 95 % bootstrap intervals over patients; p by "
        "Wilcoxon's signed-rank test over patients.",
    )


def _difference(result: RowResult, other: RowResult, seed: int) -> str:
    if seed not in other.seeds:
        return ABSENT
    mine, theirs = result.seeds[seed].mean.dsc, other.seeds[seed].mean.dsc
    return ABSENT if mine is None or theirs is None else f"{100 * (mine - theirs):+.1f}"


def seeds_table(results: Sequence[RowResult]) -> WordTable:
    """Mean scores of every seed, each on its own."""
    seeds = sorted({seed for result in results for seed in result.seeds})
    return WordTable(
        "Each seed",
        ("row", *(f"{m.upper()} % seed {seed}" for seed in seeds for m in SHARES)),
        tuple(
            (
                result.row.name,
                *(
                    percent(result.seeds[seed].mean.value(m) if seed in result.seeds else None)
                    for seed in seeds
                    for m in SHARES
                ),
            )
            for result in results
        ),
    )


def domain_table(results: Sequence[RowResult]) -> WordTable:
    """Mean DSC of every target domain."""
    names = sorted({name for result in results for name in result.domains})
    return WordTable(
        "Target domains, DSC %",
        ("row", *names),
        tuple((r.row.name, *(percent(r.domains.get(name)) for name in names)) for r in results),
    )


def organ_table(results: Sequence[RowResult], organs: Sequence[str], metric: str) -> WordTable:
    """Tables 5 and 6: mean ± SD over cases of every organ."""

    def cell(result: RowResult, organ: str | None) -> str:
        found = result.spread(metric, organ)
        if found.mean is None:
            return ABSENT
        return f"{100 * found.mean:.1f} ± {percent(found.sd)}"

    return _by_organ(f"{metric.upper()} % per organ (Tables 5 and 6)", results, organs, cell)


def quartile_table(results: Sequence[RowResult], organs: Sequence[str], metric: str) -> WordTable:
    """Table 9: 25th, 50th and 75th percentile over cases of every organ."""

    def cell(result: RowResult, organ: str | None) -> str:
        found = result.spread(metric, organ)
        return " / ".join(percent(value) for value in (found.p25, found.p50, found.p75))

    return _by_organ(f"{metric.upper()} % quartiles per organ (Table 9)", results, organs, cell)


def _by_organ(
    title: str,
    results: Sequence[RowResult],
    organs: Sequence[str],
    cell: Callable[[RowResult, str | None], str],
) -> WordTable:
    lines = [(organ, *(cell(result, organ) for result in results)) for organ in organs]
    lines.append(("mean", *(cell(result, None) for result in results)))
    return WordTable(title, ("organ", *(result.row.name for result in results)), tuple(lines))


def scores_csv(results: Sequence[RowResult]) -> str:
    """One line for each row, seed, case and organ."""
    header = ("row", "seed", "case", "patient", "domain", "organ", *SHARES)
    lines = [
        (result.row.key, seed, case.case, case.owner, case.domain, organ, *_values(score))
        for result in results
        for seed, evaluation in result.seeds.items()
        for case in evaluation.cases
        for organ, score in case.organs.items()
    ]
    return csv_text(header, lines)


def _values(score: Score) -> tuple[float | None, ...]:
    return tuple(score.value(metric) for metric in SHARES)


def _interval(found: Interval) -> str:
    between = span(found.low, found.high)
    return percent(found.mean) + (f" ({between})" if between else "")


def _step(found: Comparison | None) -> str:
    if found is None or found.difference is None:
        return ABSENT
    text = f"{100 * found.difference:+.1f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({100 * found.low:+.1f} … {100 * found.high:+.1f})"


def _p(found: Comparison | None) -> str:
    if found is None or found.p is None:
        return ABSENT
    return f"{found.p:.3f}" if found.p >= 0.001 else "< 0.001"
