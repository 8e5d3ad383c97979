"""``labelferry data import``: a clean cohort out of what hospitals and other programs write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labelferry.cli.notes import print_notes

if TYPE_CHECKING:
    from labelferry.io.importing import Imported
    from labelferry.io.notes import Note


def import_(
    path: Path,
    out: Path,
    /,
    *,
    organs: Path | None = None,
    labels: str | None = None,
    key: Path | None = None,
) -> int:
    """Turn DICOM, NRRD, MHA and NIfTI into a cohort of NIfTI files under pseudonyms.

    OUT gets images/, labels/ where there are any, and cohort.csv, which can be edited: sequences
    are guessed, and the table says from what. No name, number or date of a patient and no path is
    written. Exit code 0: everything was taken; 3: some was refused; 2: all was.

    Parameters
    ----------
    path
        A DICOM file, series, study or CD, or a folder or list of other images.
    out
        A new folder.
    organs
        Your own list of organs, a JSON file; the 13 organs of FLARE otherwise.
    labels
        How label maps of the input are numbered: amos, btcv, chaos, totalsegmentator, or a JSON
        file of names and values; otherwise by the ids of the organs, or by a dataset.json.
    key
        Write pseudonyms beside the patients' numbers and files into this CSV file. It is what the
        pseudonyms protect: keep it apart from OUT.
    """
    from labelferry.cli.console import TerminalEvents, console
    from labelferry.cli.evaluate import refuse_folders
    from labelferry.errors import EXIT_DONE, EXIT_PARTIAL
    from labelferry.io.importing import import_cohort
    from labelferry.io.numbering import find_numbering
    from labelferry.organs import FLARE, OrganSet
    from labelferry.predict.files import keep_out

    refuse_folders(key)
    keep_out(path, out)
    known = FLARE if organs is None else OrganSet.read(organs)
    notes: list[Note] = []
    try:
        with TerminalEvents() as events:
            found = import_cohort(
                path,
                out,
                organs=known,
                numbering=None if labels is None else find_numbering(labels, known),
                key=key,
                progress=events.progress,
                told=notes.append,
            )
        refused = sum(note.severity == "refused" for note in notes)
        _print(out, found, refused)
    finally:
        print_notes(console(), notes)
    return EXIT_PARTIAL if refused else EXIT_DONE


def _print(out: Path, found: Imported, refused: int) -> None:
    from labelferry.cli.console import console
    from labelferry.io.notes import count
    from labelferry.io.table import TABLE_NAME

    said = console()
    text = f"{out}: {count(found.cohort.cases, 'volume')} of "
    text += f"{count(found.cohort.patients, 'patient')}; {refused} refused"
    said.print(text, style="bold", markup=False)
    guessed = [c.id for c in found.cohort if c.modality == "MR" and found.guesses[c.id]]
    if guessed:
        text = f"{count(guessed, 'sequence')} guessed: look at them in {out / TABLE_NAME}"
        said.print(text, markup=False)
    for case in found.cohort:
        guess = found.guesses[case.id]
        by = f" (guessed from: {guess})" if guess and case.modality == "MR" else ""
        said.print(f"{case.id}: {case.modality}, {case.sequence}{by}", markup=False)
