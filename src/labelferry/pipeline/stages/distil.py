"""distil: train the small network on the selected pseudo-labels and ship it (2.4, Tables 1–2)."""

from __future__ import annotations

from labelferry.files import read_json
from labelferry.pace import cut_short
from labelferry.pipeline.learn import learn_and_label, steps_made
from labelferry.pipeline.plausible import tell
from labelferry.pipeline.prepared import prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.pipeline.students import source_examples, target_examples


def run(context: Context) -> Summary:
    """Train the student on what ``refine`` selected; label the target with it for the report."""
    config = context.config.distil
    target = prepared_cases(context.of("prepare"), "target")
    believed = _believed(context)
    mri = target_examples(target, context.of("refine") / "labels", believed, config.space)
    examples = [*mri, *source_examples(context, config, len(mri))]
    medians, failed = learn_and_label(
        context, "student", config, examples, target, what="MRI labelled by the student"
    )
    return Summary(
        f"small network from {len(mri)} MRI; implausibility {tell(medians)}"
        f"{cut_short(context.folder)}",
        {
            "plausibility": medians,
            "selected": len(mri),
            "steps": steps_made(context.folder, config.train),
        },
        failed,
    )


def _believed(context: Context) -> dict[str, frozenset[int]]:
    """The organs of each case that ``refine`` kept."""
    rows = read_json(context.of("refine") / "selection.json", schema=1)["cases"]
    return {row["case"]: frozenset(row["organs"]) for row in rows}


STAGE = Stage(
    "distil",
    lambda config: {
        "distil": config.distil,
        "prepare": config.prepare,
        "predict": config.predict,
    },
    ("prepare", "refine"),
    run,
    revision=2,
    trains=True,
)
