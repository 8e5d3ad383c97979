"""teach: train on fake MRI (or its rivals) with CT labels, then pseudo-label the real MRI (2.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from labelferry.anatomy.prepare import prepare_labels
from labelferry.errors import UserError
from labelferry.io.images import read_case
from labelferry.io.nifti import write_volume
from labelferry.organs import convert_labels
from labelferry.pace import cut_short
from labelferry.pipeline.completing import complete_source, source_cases
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.learn import judge_labels, learn_and_label, steps_made
from labelferry.pipeline.plausible import tell
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.pipeline.students import known_organs
from labelferry.pipeline.translations import find_translations
from labelferry.predict.tidy import tidy
from labelferry.segment.examples import Example, Randomise


def run(context: Context) -> Summary:
    """Train the teacher and write ``labels/<case>.nii.gz`` for every target case."""
    if context.config.teacher:
        return _label_by_nnunet(context, Path(context.config.teacher))
    config = context.config.teach
    target = prepared_cases(context.of("prepare"), "target")
    completed = complete_source(context)
    examples = training_examples(context)
    medians, failed = learn_and_label(
        context, "teacher", config, examples, target, what="MRI pseudo-labelled"
    )
    return Summary(
        f"{completed}{len(target) - len(failed)} MRI pseudo-labelled; "
        f"implausibility {tell(medians)}{cut_short(context.folder)}",
        {"plausibility": medians, "steps": steps_made(context.folder, config.train)},
        failed,
    )


def _label_by_nnunet(context: Context, folder: Path) -> Summary:
    """Pseudo-label the MRI, as they lie on the disk, with a model that nnU-Net trained."""
    from labelferry.predict.foreign import load_foreign

    model = load_foreign(folder, device=context.device, config=context.config.predict)
    numbering = model.numbering(context.organs)
    unknown = known_organs(context) - numbering.organs_annotated(context.organs)
    if unknown:
        raise UserError(
            "the teacher does not know every organ that the source annotates",
            path=folder,
            seen=", ".join(context.organs[organ].name for organ in sorted(unknown)),
            allowed=", ".join(model.organs.names),
            fix="give another teacher, or the organs that both know with --organs",
        )
    target = prepared_cases(context.of("prepare"), "target")
    cases = {case.id: case for case in context.target}
    labels = context.folder / "labels"

    def work(case: PreparedCase) -> None:
        found = model.predict(read_case(cases[case.id]).volume, case=case.id)
        named = convert_labels(found.array, numbering, context.organs)
        prepared = case.read()
        ready = prepare_labels(found.with_array(named), prepared, case=case.id)
        tidied = tidy(ready.array, prepared.image, context.organs, context.config.predict)
        write_volume(labels / f"{case.id}.nii.gz", ready.with_array(tidied))

    failed = context.each(
        "MRI pseudo-labelled",
        work,
        target,
        name=lambda case: case.id,
        made=lambda case: labels / f"{case.id}.nii.gz",
    )
    medians = judge_labels(context, target)
    return Summary(
        f"{len(target) - len(failed)} MRI pseudo-labelled by a model of nnU-Net; implausibility "
        f"{tell(medians)}",
        {"plausibility": medians, "steps": 0},
        failed,
    )


class _Mark(BaseModel):
    """What a model of nnU-Net adds to the stage's fingerprint."""

    sha256: str


def _sections(config: RunConfig) -> dict[str, BaseModel]:
    sections: dict[str, BaseModel] = {
        "teach": config.teach,
        "prepare": config.prepare,
        "predict": config.predict,
    }
    if config.teacher:
        from labelferry.segment.foreign import hash_foreign

        sections["teacher"] = _Mark(sha256=hash_foreign(Path(config.teacher)))
    return sections


def training_examples(context: Context) -> list[Example]:
    """The images that the mix asks for, each with the labels of its CT.

    The fakes of a CT, one or one a target domain, share what the mix gives to its fake.
    """
    config = context.config.teach
    mix = config.mix
    window = context.config.prepare.ct_window
    fakes = [(one, one.left_out()) for one in find_translations(context.of("translate"))]
    examples: list[Example] = []
    for case in source_cases(context):
        real = case.example(config.space, window)
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
    _sections,
    ("prepare", "translate"),
    run,
    revision=3,
    trains=True,
)
