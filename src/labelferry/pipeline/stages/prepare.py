"""prepare: check, canonical orientation, working grid, anatomy space, and the prior."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from labelferry.errors import UserError
from labelferry.files import write_json
from labelferry.io.images import read_labels
from labelferry.pipeline.preparing import prepare_cases
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.prior.learn import learn_prior
from labelferry.volume import Segmentation


def run(context: Context) -> Summary:
    """Prepare every case; a refused case is named and left out, the others go on."""
    rows, failed = prepare_cases(context, context.folder, context.config.prepare)
    for role, cases in (("source", context.source), ("target", context.target)):
        if not any(row["role"] == role for row in rows):
            reason = next(iter(failed.values()), "no case")
            raise UserError(
                f"no usable {role} case",
                seen=f"{len(cases)} refused; the first: {reason}",
                fix="run 'labelferry data check' on the folder",
            )
    for row in rows:
        for text in row["notes"]:
            context.events.note(text if row["id"] in text else f"{row['id']}: {text}", "warning")
    prior = learn_prior(_source_labels(rows, context), context.organs)
    write_json(context.folder / "prior.json", prior.to_json())
    return _summary(rows, failed, context)


def _source_labels(
    rows: list[dict[str, Any]], context: Context
) -> Iterator[tuple[Segmentation, frozenset[int]]]:
    for row in rows:
        if row["role"] == "source":
            path = context.folder / "source" / row["id"] / "label.nii.gz"
            yield read_labels(path, context.organs), frozenset(row["annotated"])


def _summary(rows: list[dict[str, Any]], failed: dict[str, str], context: Context) -> Summary:
    domains = Counter(row["domain"] for row in rows if row["role"] == "target")
    source = sum(row["role"] == "source" for row in rows)
    known = {organ for row in rows for organ in row["annotated"]}
    missing = [organ.name for organ in context.organs if organ.id not in known]
    if missing:
        context.events.note(
            f"no source case annotates {', '.join(missing)}: no model can learn "
            f"{'it' if len(missing) == 1 else 'them'}; results will lack "
            f"{'this organ' if len(missing) == 1 else 'these organs'}",
            "warning",
        )
    parts = ", ".join(f"{n} {domain}" for domain, n in sorted(domains.items()))
    text = f"{source} labelled CT, {sum(domains.values())} MRI ({parts})"
    if failed:
        text += f", {len(failed)} refused"
    notes = {row["id"]: row["notes"] for row in rows if row["notes"]}
    facts = {
        "source": source,
        "target": dict(sorted(domains.items())),
        "missing_organs": missing,
        "notes": notes,
    }
    return Summary(text, facts, failed)


STAGE = Stage(
    "prepare",
    lambda config: {"prepare": config.prepare, "limits": config.limits()},
    (),
    run,
)
