"""What a person reads of a note."""

from pathlib import Path

from labelferry.io.notes import Note


def test_a_case_is_named_once():
    def line(case, file, text):
        return Note(case, Path(file) if file else None, text, None, "info").line()

    assert line("p1", "p1.nii.gz", "p1.nii.gz: empty") == "p1.nii.gz: empty"
    assert line("p1", "p1_0000.nii.gz", "p1_0000.nii.gz: empty") == "p1_0000.nii.gz: empty"
    assert line("p1", "scan.nii.gz", "scan.nii.gz: empty") == "p1: scan.nii.gz: empty"
    assert line("p1", "p1.nii.gz", "no label map") == "p1: no label map"
    assert line("an", None, "an image is empty") == "an: an image is empty"
    assert line(None, "scan.nii.gz", "scan.nii.gz: empty") == "scan.nii.gz: empty"


def test_a_fix_follows_as_a_sentence():
    note = Note(None, None, "two images of one name", "rename one", "refused")
    assert note.line() == "two images of one name. Rename one"
