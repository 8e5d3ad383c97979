"""labelferry adapt: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def adapt(
    run: Path,
    *,
    source: Path,
    target: Path,
    preset: str = "default",
    size: str = "full",
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    organs: Path | None = None,
    labels: str | None = None,
    until: str | None = None,
    max_hours: float | None = None,
    teacher: Path | None = None,
    group_sequences: bool = False,
    key: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Turn labelled CT and unlabelled MRI into an MRI segmentation model.

    The same command goes on after a kill, and runs only what has changed.

    Parameters
    ----------
    run
        Folder for everything that the run makes.
    source
        Labelled CT: a folder with images/ and labels/ (and a cohort.csv where there is one), a
        list of files (.csv, .txt), an nnU-Net raw data set, or BIDS.
    target
        Unlabelled MRI: any of these, a folder of images, flat or nested, or one image; or DICOM,
        whose patients get pseudonyms.
    preset
        The method: default, paper, … or a TOML file of your own.
    size
        The budget: demo (minutes, two CPU cores), laptop, night (one GPU), full (the paper's).
    set_
        Change one value of the configuration: --set teach.train.epochs=50. May be repeated.
    organs
        A JSON list of your own organs instead of the 13 of FLARE.
    labels
        How the source's label maps are numbered: amos, btcv, chaos, totalsegmentator, or a JSON
        file of names and values; otherwise by the ids of the organs, or by a dataset.json.
    until
        Stop after this stage: prepare, translate, teach, match, refine, distil or report.
    max_hours
        Hours that this start may take: every training is cut to whole epochs that fit its share, by
        its speed over the first steps. Without it nothing depends on the clock.
    teacher
        A model folder of nnU-Net (plans.json, dataset.json, fold_*/checkpoint_final.pth) that
        labels the MRI in place of translation and of a teacher's training.
    group_sequences
        Make domains (group1, group2, …) of the MRI whose sequence nothing says, by how they look.
    key
        Write whose images the pseudonyms are into this CSV file, for DICOM. Keep it apart.
    dry_run
        Say what would be done, and do nothing.
    """
    from labelferry.cli.console import TerminalEvents, console
    from labelferry.cli.evaluate import refuse_folders
    from labelferry.files import write_text
    from labelferry.io.pseudonyms import keep_key_apart
    from labelferry.organs import FLARE, OrganSet
    from labelferry.pipeline import chain
    from labelferry.pipeline.config import load_config, taught_by
    from labelferry.predict.files import keep_out

    limits = () if max_hours is None else (f"max_hours={max_hours}",)
    refuse_folders(key)
    keep_key_apart(key, run)
    taught = () if teacher is None else taught_by(teacher)
    config = load_config(preset, size, (*set_, *limits, *taught))
    for path in (source, target):
        keep_out(path, run)
    chosen = FLARE if organs is None else OrganSet.read(organs)
    with TerminalEvents() as events:
        data, refused = chain.find_input(source, target, chosen, events, labels)
        if key is not None:
            from labelferry.io.series import key_of

            write_text(key, key_of(data.target))
        if group_sequences:
            data = chain.group_target(data, events, None if dry_run else run, config.workers)
        if dry_run:
            rows = chain.dry_run(run, config, data, until)
            for row in rows:
                console().print(f"{row.stage.name:<10} {row.state}", markup=False)
            return 0
        result = chain.run_config(run, config, data, refused, until=until, events=events)
    _tell(result)
    return result.exit_code


def _tell(result: object) -> None:
    from labelferry.cli.console import console
    from labelferry.pipeline.chain import RunResult

    assert isinstance(result, RunResult)
    out = console()
    for case, reason in sorted(result.refused.items()):
        out.print(f"left out: {case}: {reason}", markup=False)
    if result.report.exists():
        out.print(f"report: {result.report}", markup=False)
    if "distil" in result.manifests:
        out.print(f"model:  {result.run / 'distil' / 'model'}", markup=False)
        out.print(f"next:   labelferry predict IMAGES OUTPUT --model {result.run}", markup=False)
