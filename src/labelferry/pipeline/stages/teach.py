"""teach: train on fake MRI (or its rivals) with CT labels, then pseudo-label the real MRI (2.2)."""

from __future__ import annotations

from dataclasses import replace

from labelferry.pace import cut_short
from labelferry.pipeline.learn import learn_and_label, steps_made
from labelferry.pipeline.plausible import tell
from labelferry.pipeline.prepared import prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.pipeline.translations import find_translations
from labelferry.segment.examples import Example, Randomise


def run(context: Context) -> Summary:
    """Train the teacher and write ``labels/<case>.nii.gz`` for every target case."""
    config = context.config.teach
    target = prepared_cases(context.of("prepare"), "target")
    examples = training_examples(context)
    medians, failed = learn_and_label(
        context, "teacher", config, examples, target, what="MRI pseudo-labelled"
    )
    return Summary(
        f"{len(target) - len(failed)} MRI pseudo-labelled; implausibility {tell(medians)}"
        f"{cut_short(context.folder)}",
        {"plausibility": medians, "steps": steps_made(context.folder, config.train)},
        failed,
    )


def training_examples(context: Context) -> list[Example]:
    """The images that the mix asks for, each with the labels of its CT.

    The fakes of a CT, one or one a target domain, share what the mix gives to its fake.
    """
    config = context.config.teach
    mix = config.mix
    window = context.config.prepare.ct_window
    fakes = [(one, one.left_out()) for one in find_translations(context.of("translate"))]
    examples = []
    for case in prepared_cases(context.of("prepare"), "source"):
        real = Example(
            f"{case.id}.ct",
            case.channels(config.space),
            case.file("label"),
            case.annotated,
            window=window,
        )
        if mix.ct:
            examples.append(replace(real, weight=mix.ct))
        kinds: tuple[tuple[Randomise, float], ...] = (
            ("curves", mix.curves),
            ("convolutions", mix.convolutions),
            ("paint", mix.paint),
        )
        for kind, share in kinds:
            if share:
                examples.append(replace(real, id=f"{case.id}.{kind}", weight=share, randomise=kind))
        kept = [one for one, out in fakes if case.id not in out and one.fake(case.id).exists()]
        if mix.fake:
            examples += [
                replace(
                    real,
                    id=f"{case.id}.{one.fake_id}",
                    channels=(one.fake(case.id),),
                    weight=mix.fake / len(kept),
                )
                for one in kept
            ]
    return examples


STAGE = Stage(
    "teach",
    lambda config: {
        "teach": config.teach,
        "prepare": config.prepare,
        "predict": config.predict,
    },
    ("prepare", "translate"),
    run,
    revision=2,
    trains=True,
)
