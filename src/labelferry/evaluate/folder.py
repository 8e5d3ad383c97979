"""Score a folder of predictions against a folder of truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from labelferry.errors import UserError
from labelferry.evaluate.protocol import find_protocol
from labelferry.evaluate.results import CaseScores, Evaluation
from labelferry.evaluate.truth import Truth, find_files, find_truth, organ_ids
from labelferry.io.numbering import find_numbering
from labelferry.organs import FLARE, OrganSet


def evaluate(
    pred: Path | str,
    truth: Path | str,
    *,
    organs: OrganSet = FLARE,
    protocol: str = "strict",
    only: Sequence[str] | None = None,
    annotated: Iterable[str | int] | None = None,
    labels: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score predictions against truth, case by case (the memory of one case).

    ``pred`` and ``truth`` are folders of NIfTI label maps whose names are the case ids, or single
    files; two single files belong together whatever their names. A ``cohort.csv`` in the truth
    folder says which organs each case annotates; without it, those that its label map holds.
    ``annotated`` (names or ids) says it for every case, whatever else does; without it, ``flare24``
    scores every organ. ``labels`` says how the truth is numbered, where not by the organs' ids
    (amos, btcv, chaos, totalsegmentator, or a JSON file): without a table, every case then
    annotates the organs that the numbering has. Beside the rules of the protocol (``strict`` or
    ``flare24``):

    * a truth without a prediction is in ``missing`` and counts 0 for the organs it annotates;
    * a prediction that cannot be read, or does not lie on the truth's grid, is refused with the
      reason, and counts as missing; ``strict`` turns one whose axes stand in another order, and
      ``flare24`` asks for the same shape only;
    * a truth that cannot be read is refused, and not scored;
    * of two files of one case neither is taken: refused likewise;
    * a prediction without truth is in ``extra``, and not scored.

    ``only`` restricts the work to the cases of these ids; ``progress`` hears (done, total).

    Raises ``UserError`` for a missing or empty folder, an unknown protocol, case or organ, or when
    no prediction at all can be scored.
    """
    pred, truth = Path(pred), Path(truth)
    rules = find_protocol(protocol)
    numbering = None if labels is None else find_numbering(labels, organs)
    twins: dict[str, UserError] = {}
    unclear: dict[str, UserError] = {}
    predictions, truths = find_files(pred, twins), find_truth(truth, organs, unclear)
    if pred.is_file() and truth.is_file():
        predictions = dict.fromkeys(truths, pred)
    expressible = None if numbering is None else numbering.organs_annotated(organs)
    fixed = organs.ids if rules.every_organ else None
    if annotated is not None:
        fixed = organ_ids(annotated, organs)
    chosen = _choose(truths, predictions, alone=pred.is_file(), only=only)
    cases: list[CaseScores] = []
    missing: list[str] = []
    refused: dict[str, UserError] = {
        **{case: error for case, error in twins.items() if case in truths},
        **unclear,
    }
    for done, (case, known) in enumerate(chosen.items()):
        if progress:
            progress(done, len(chosen))
        try:
            true = rules.read_truth(known.label, organs, numbering)
        except UserError as error:
            refused[case] = error.at(known.label, case)
            continue
        predicted = None
        if case in predictions:
            try:
                if rules.check_headers:
                    rules.check_headers(predictions[case], known.label)
                predicted = rules.read_prediction(predictions[case], true.grid, organs)
            except UserError as error:
                refused[case] = error.at(predictions[case], case)
        if predicted is None:
            missing.append(case)
        speaks_of = fixed if fixed is not None else known.annotated_in(true, expressible)
        scores = rules(predicted, true, speaks_of, organs)
        cases.append(CaseScores(case, scores, known.sequence, known.domain, known.patient))
    if progress:
        progress(len(chosen), len(chosen))
    if refused and len(missing) == len(cases):
        raise next(iter(refused.values()))
    reasons = {case: error.without_path(case=False) for case, error in refused.items()}
    extra: tuple[str, ...] = ()
    if not truth.is_file():
        extra = tuple(sorted({*predictions, *twins} - {*truths, *unclear}))
    return Evaluation(protocol, organs.names, tuple(cases), tuple(missing), extra, reasons)


def _choose(
    truths: Mapping[str, Truth],
    predictions: Mapping[str, Path],
    *,
    alone: bool,
    only: Sequence[str] | None,
) -> dict[str, Truth]:
    """The cases to score. A prediction that stands ``alone`` does not answer for a whole folder."""
    unknown = sorted(set(only or ()) - set(truths))
    if unknown:
        raise UserError("no truth of this name", case=unknown[0], allowed=_few(truths))
    chosen = {
        case: known
        for case, known in truths.items()
        if (only is None or case in only) and (not alone or case in predictions)
    }
    if not set(chosen) & set(predictions):
        raise UserError(
            "no prediction has the name of a case with truth",
            seen=_few(predictions),
            allowed=_few(chosen or truths),
        )
    return chosen


def _few(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:5]) + (f", … ({len(some)} names)" if len(some) > 5 else "")
