"""The whole chain, top to bottom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from labelferry.anatomy.groups import with_groups
from labelferry.errors import EXIT_DONE, EXIT_PARTIAL, UserError
from labelferry.io.discover import Discovery, discover
from labelferry.io.notes import Note, count, some
from labelferry.io.numbering import find_numbering
from labelferry.organs import FLARE, OrganSet
from labelferry.pipeline.config import RunConfig, load_config, taught_by
from labelferry.pipeline.events import Events, Silent
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.runfile import read_run
from labelferry.pipeline.runner import Input, Planned, plan, run_stages
from labelferry.pipeline.stage import Stage
from labelferry.pipeline.stages import distil, match, prepare, refine, report, teach, translate
from labelferry.predict.files import keep_out

STAGES: tuple[Stage, ...] = (
    prepare.STAGE,
    translate.STAGE,
    teach.STAGE,
    match.STAGE,
    refine.STAGE,
    distil.STAGE,
    report.STAGE,
)
"""In the order of the paper."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves behind."""

    run: Path
    manifests: dict[str, Manifest]
    refused: dict[str, str]
    """Cases that were left out, with the reason."""

    @property
    def report(self) -> Path:
        """The page."""
        return self.run / "report" / "report.html"

    @property
    def exit_code(self) -> int:
        """0 when every case was used, 3 when some were left out."""
        return EXIT_PARTIAL if self.refused else EXIT_DONE


def adapt(
    run: Path | str,
    source: Path | str,
    target: Path | str,
    *,
    preset: str = "default",
    size: str = "full",
    overrides: Iterable[str] = (),
    organs: OrganSet = FLARE,
    labels: str | None = None,
    teacher: Path | str | None = None,
    group_sequences: bool = False,
    until: str | None = None,
    events: Events | None = None,
) -> RunResult:
    """Turn labelled CT and unlabelled MRI into an MRI segmentation model in the folder ``run``.

    ``source`` holds images and labels, ``target`` images; labels of the target are never looked
    at. ``overrides`` are ``section.key=value`` texts. ``labels``: how the source's label maps are
    numbered (amos, btcv, chaos, totalsegmentator, or a JSON file), where not by the organs' ids.
    ``teacher``: a model folder of nnU-Net that labels the target in a trained teacher's place.
    ``group_sequences``: MRI whose sequence nothing says become domains by how they look. The same
    call goes on after a kill, and runs only what has changed. Raises ``UserError`` for
    anything that a person can mend.
    """
    taught = () if teacher is None else taught_by(Path(teacher))
    config = load_config(preset, size, (*overrides, *taught))
    for path in (source, target):
        keep_out(Path(path), Path(run))
    told = events or Silent()
    data, refused = find_input(Path(source), Path(target), organs, told, labels)
    if group_sequences:
        data = group_target(data, told, Path(run), config.workers)
    return run_config(Path(run), config, data, refused, until=until, events=events)


def run_config(
    run: Path,
    config: RunConfig,
    data: Input,
    refused: dict[str, str],
    *,
    until: str | None = None,
    reuse: Sequence[Path] = (),
    events: Events | None = None,
) -> RunResult:
    """Run the stages of a configuration on cohorts that were found before.

    ``reuse``: other run folders whose finished stages may be taken where they are the same.
    """
    device = set_up_torch(config)
    _check_anchors(config, data, until)
    manifests = run_stages(
        run, STAGES, config, data, events or Silent(), device=device, until=until, reuse=reuse
    )
    failed = {k: v for manifest in manifests.values() for k, v in manifest.failed.items()}
    return RunResult(run, manifests, {**refused, **failed})


def dry_run(
    run: Path, config: RunConfig, data: Input, until: str | None = None
) -> Sequence[Planned]:
    """What ``adapt`` would do."""
    names = [stage.name for stage in STAGES]
    if until is not None and until not in names:
        raise UserError("unknown stage", seen=until, allowed=", ".join(names))
    _check_anchors(config, data, until)
    stages = STAGES if until is None else STAGES[: names.index(until) + 1]
    return plan(run, stages, config, data)


def find_input(
    source: Path, target: Path, organs: OrganSet, events: Events, labels: str | None = None
) -> tuple[Input, dict[str, str]]:
    """The cohorts of two folders, and what was refused in them.

    ``labels``: how the source's label maps are numbered, as for :func:`adapt`.
    """
    numbering = None if labels is None else find_numbering(labels, organs)
    heard = partial(events.progress, "headers read")
    found = (
        discover(source, "source", organs, numbering),
        _without_ct(discover(target, "target", organs, progress=heard)),
    )
    for discovery in found:
        _tell(discovery, events)
    refused = {note.case or str(note.path): note.text for d in found for note in d.refused}
    for discovery, path, role in zip(found, (source, target), ("source", "target"), strict=True):
        if not len(discovery.cohort):
            raise UserError(
                f"no usable {role} case",
                path=path,
                seen="; ".join(note.text for note in discovery.refused[:3]) or None,
                fix=f"run 'labelferry data check {path}'",
            )
    return Input(found[0].cohort, found[1].cohort.without_labels(), organs), refused


def _without_ct(found: Discovery) -> Discovery:
    """The same without the CT of a study: DICOM says for sure what is no MRI."""
    ct = [case.id for case in found.cohort if case.series is not None and case.modality == "CT"]
    if not ct:
        return found
    text = f"{count(ct, 'CT')} among the DICOM series of the target, left out: {some(ct)}"
    notes = (*found.notes, Note(None, None, text, None, "warning"))
    return replace(found, cohort=found.cohort.where(lambda case: case.id not in ct), notes=notes)


def group_target(data: Input, events: Events, run: Path | None, workers: int) -> Input:
    """The same input, with domains for target cases of unknown sequence, by how they look.

    ``run``: the folder in which looks are remembered; None to write nothing.
    """
    from labelferry.pipeline.looks import look_cases

    target, notes = with_groups(
        data.target, lambda _, cases: look_cases(cases, events, run, workers)
    )
    for note in notes:
        events.note(note.line(), "info")
    return replace(data, target=target)


def _check_anchors(config: RunConfig, data: Input, until: str | None) -> None:
    """Tell of an anchor domain that no case has before a night goes into the teacher."""
    if until in ("prepare", "translate", "teach"):
        return
    domains = data.target.domains
    for name in config.match.anchors:
        if name not in domains:
            raise UserError(
                "unknown anchor domain",
                seen=name,
                allowed=", ".join(domains),
                fix="name the domains in cohort.csv, or others with --set 'match.anchors=[…]'; "
                "with [] the prior decides",
            )


def _tell(discovery: Discovery, events: Events) -> None:
    for note in (*discovery.notes, *discovery.refused):
        events.note(note.line(), "info" if note.severity == "info" else "warning")


def set_up_torch(config: RunConfig) -> str:
    """Fix the number of threads and choose the device; returns its name."""
    import torch

    from labelferry.predict.predictor import choose_device

    if config.threads:
        torch.set_num_threads(config.threads)
    return str(choose_device(config.device))


def status(run: Path) -> list[tuple[str, str, str]]:
    """For each stage: its name, ``done``, ``stale``, ``damaged``, ``begun`` or ``to do``, and its
    summary."""
    read_run(run)
    rows = []
    hashes: dict[str, str] = {}
    for stage in STAGES:
        folder = run / stage.name
        manifest = Manifest.read(folder)
        if manifest:
            hashes[stage.name] = manifest.output_hash
        if manifest and any(hashes.get(name) != manifest.inputs.get(name) for name in stage.after):
            rows.append((stage.name, "stale", "a stage before it has changed: run adapt again"))
        elif manifest and manifest.holds(folder):
            rows.append((stage.name, "done", str(manifest.summary.get("text", ""))))
        elif manifest:
            rows.append((stage.name, "damaged", "files are missing: run adapt again"))
        elif (folder / "state.json").exists():
            rows.append((stage.name, "begun", ""))
        else:
            rows.append((stage.name, "to do", ""))
    return rows
