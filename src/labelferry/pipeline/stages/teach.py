"""teach: train on fake MRI (or its rivals) with CT labels, then pseudo-label the real MRI (2.2)."""

from __future__ import annotations

from dataclasses import replace

from labelferry.pipeline.plausible import judge, tell, write_plausibility
from labelferry.pipeline.prepared import predict_cases, prepared_cases, read_prior
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example


def run(context: Context) -> Summary:
    """Train the teacher and write ``labels/<case>.nii.gz`` for every target case."""
    config = context.config.teach
    target = prepared_cases(context.of("prepare"), "target")
    examples = training_examples(context)
    task = Task(
        "teacher",
        context.organs,
        config.space,
        context.config.prepare,
        config.network,
        config.normalisation,
    )
    model = train_model(
        examples,
        task,
        config.train,
        context.folder,
        seed=context.seed,
        device=context.device,
        progress=context.progress("teacher steps"),
    )
    labels = context.folder / "labels"
    failed = predict_cases(context, model, target, labels, what="MRI pseudo-labelled")
    judged = judge(target, labels, read_prior(context.of("prepare")), context.organs)
    medians = write_plausibility(context.folder / "plausibility.json", judged, target)
    return Summary(
        f"{len(target) - len(failed)} MRI pseudo-labelled; implausibility {tell(medians)}",
        {"plausibility": medians, "steps": config.train.iterations},
        failed,
    )


def training_examples(context: Context) -> list[Example]:
    """The images that the mix asks for, each with the labels of its CT."""
    config = context.config.teach
    mix = config.mix
    fakes = context.of("translate") / "fake"
    examples = []
    for case in prepared_cases(context.of("prepare"), "source"):
        real = Example(
            f"{case.id}.ct", case.channels(config.space), case.file("label"), case.annotated
        )
        if mix.ct:
            examples.append(replace(real, weight=mix.ct))
        if mix.curves:
            examples.append(
                replace(real, id=f"{case.id}.curves", weight=mix.curves, randomise=True)
            )
        fake = fakes / f"{case.id}.nii.gz"
        if mix.fake and fake.exists():
            examples.append(replace(real, id=f"{case.id}.fake", channels=(fake,), weight=mix.fake))
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
)
