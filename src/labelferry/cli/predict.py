"""labelferry predict: labels for images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from labelferry.errors import EXIT_DONE, EXIT_INPUT, EXIT_PARTIAL, UserError
from labelferry.predict.config import Amp, EngineName, Export, LabelFormat


def predict(
    input: Path,
    output: Path,
    *,
    model: Path,
    device: str = "auto",
    export: Export | None = None,
    format: Annotated[tuple[LabelFormat, ...], Parameter(consume_multiple=True, negative="")] = (
        "nifti",
    ),
    key: Path | None = None,
    engine: EngineName | None = None,
    amp: Amp | None = None,
    fix_orientation: Annotated[bool, Parameter(negative="")] = False,
    quality: Path | None = None,
    skip_done: Annotated[bool, Parameter(negative="")] = False,
    max_ram: float | None = None,
) -> int:
    """Label images with a model.

    Parameters
    ----------
    input
        An image (.nii, .nii.gz, .nrrd, .mha), a folder of images (flat or nested, or with images/),
        a list of files (.txt, .csv), an nnU-Net raw data set, BIDS; or a DICOM file, series, study
        or CD, whose labels are named by pseudonyms (p001_T2).
    output
        A folder for the labels; for a single image also the name of the label file.
    model
        A run of ``labelferry adapt``, or a model folder, or its .zip; or a model folder of nnU-Net,
        whose own label values come out.
    device
        auto (CUDA where there is one), cpu, cuda or cuda:N.
    export
        fast, exact (as nnU-Net resamples), or paper (sigmoid, threshold, resample). As the run that
        made the model without it.
    format
        nifti, dicom-seg, or both: labels of DICOM as a DICOM SEG beside or instead of NIfTI. It
        bears the patient's identity, as its series does.
    key
        Write whose images the pseudonyms are into this CSV file, for DICOM.
    engine
        What runs the network: auto (OpenVINO on a CPU where it is installed, else torch), torch,
        or openvino.
    amp
        Precision of the network: auto, bf16, fp16 or fp32.
    fix_orientation
        Label a picture whose organs contradict its header as if it were mirrored or turned over,
        and write the labels onto the file's own voxels. Without it such a picture is only named.
    quality
        Write how far to trust each organ into this CSV file. A folder of labels has quality.csv
        (and volumes.csv) anyway.
    skip_done
        Leave labels that are there already as they are.
    max_ram
        Memory in GB that this may take: an image that needs more, by an estimate, is labelled in a
        leaner way, or is told as failed while the others go on.
    """
    from labelferry.cli.nibabelalone import load_nibabel

    load_nibabel()
    from labelferry.cli.console import TerminalEvents, console, error_console
    from labelferry.cli.evaluate import refuse_folders
    from labelferry.cli.notes import tell
    from labelferry.files import write_text
    from labelferry.io.pseudonyms import keep_key_apart
    from labelferry.predict.files import (
        find_inputs,
        keep_out,
        output_paths,
        predict_files,
    )
    from labelferry.predict.formats import check_formats
    from labelferry.predict.tables import FAILURES

    refuse_folders(key, quality)
    if max_ram is not None and not max_ram > 0:
        raise UserError("--max-ram is out of range", seen=f"{max_ram:g} GB", allowed="above 0 GB")
    keep_key_apart(key, output)
    with TerminalEvents() as events:
        inputs = find_inputs(
            input, lambda done, total: events.progress("headers read", done, total)
        )
    keep_out(input, output)
    if not inputs.cases:
        for note in inputs.notes:
            tell(TerminalEvents(), note)
        for failure in inputs.failures():
            error_console().print(f"failed: {failure.case}: {failure.reason}", markup=False)
        return EXIT_INPUT
    check_formats(format, output, inputs.cases.values(), inputs.series)
    places = output_paths(inputs.cases, output)
    from labelferry.predict.foreign import load_labeller

    loaded = load_labeller(
        model, device=device, export=export, engine=engine, amp=amp, max_ram_gb=max_ram
    )
    with TerminalEvents() as events:
        for note in inputs.notes:
            tell(events, note)
        failures = predict_files(
            loaded,
            inputs,
            output,
            overwrite=not skip_done,
            fix_orientation=fix_orientation,
            quality=quality,
            formats=format,
            progress=lambda done, total: events.progress("images labelled", done, total),
            told=lambda note: tell(events, note),
        )
    if key is not None:
        from labelferry.io.series import key_of

        write_text(key, key_of(inputs.series.values()))
    for failure in failures:
        error_console().print(f"failed: {failure.case}: {failure.reason}", markup=False)
    total = len(inputs.cases) + len(inputs.refused)
    done = total - len(failures)
    if done:
        console().print(f"labels: {output} ({done} of {total} images)", markup=False)
    if failures and output not in places.values():
        error_console().print(f"failures: {output / FAILURES}", markup=False)
    if not failures:
        return EXIT_DONE
    return EXIT_PARTIAL if done else EXIT_INPUT
