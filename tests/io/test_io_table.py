from __future__ import annotations

from pathlib import Path

import pytest

from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.io.table import COLUMNS, has_labels, read_table, write_table
from labelferry.organs import FLARE

HEAD = ",".join(COLUMNS)


def table(folder: Path, *rows: str, head: str = HEAD, files: str = "a b c") -> Path:
    for name in files.split():
        for kind in ("images", "labels"):
            path = folder / kind / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    folder.mkdir(exist_ok=True)
    (folder / "cohort.csv").write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")
    return folder / "cohort.csv"


def only_fault(path: Path) -> str:
    read = read_table(path)
    assert len(read.faults) == 1
    return str(read.faults[0])


def test_a_full_row(tmp_path):
    path = table(tmp_path, "a,p1,MR,T2,T2 fast,images/a.nii.gz,labels/a.nii.gz,1;3; 13")
    (case,) = read_table(path).cases
    assert case == Case(
        "a",
        "p1",
        "MR",
        "T2",
        "T2 fast",
        tmp_path / "images/a.nii.gz",
        tmp_path / "labels/a.nii.gz",
        frozenset({1, 3, 13}),
    )


def test_empty_cells_have_defaults(tmp_path):
    path = table(
        tmp_path,
        "a,,CT,,,images/a.nii.gz,labels/a.nii.gz,",
        "b,p1,mri,,,images/b.nii.gz,,",
        "c,p1,MR,T1,,images/c.nii.gz,,1;2",
    )
    a, b, c = read_table(path).cases
    assert (a.patient, a.modality, a.sequence, a.domain) == ("a", "CT", "CT", "CT")
    assert a.annotated is None  # what the label map holds
    assert (b.modality, b.sequence, b.domain) == ("MR", "unknown", "unknown")
    assert (c.sequence, c.domain) == ("T1", "T1")
    assert c.label is None
    assert c.annotated is None


def test_what_spreadsheets_write_is_read(tmp_path):
    path = table(
        tmp_path, ' a , p1,CT,,,"images/a.nii.gz",,,free text', ",,,,,,,,", head=HEAD + ",x"
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    read = read_table(path)
    assert [case.id for case in read.cases] == ["a"]
    assert not read.faults


def test_few_columns_are_enough(tmp_path):
    path = table(tmp_path, "images/a.nii.gz,a,p,MR", head="image,case,patient,modality")
    assert read_table(path).cases[0].domain == "unknown"
    assert not has_labels(path)


def test_paths_may_lead_out_of_the_folder(tmp_path):
    table(tmp_path / "one", files="a")
    absolute = tmp_path / "one" / "labels" / "a.nii.gz"
    path = table(tmp_path / "two", f"a,p,CT,,,../one/images/a.nii.gz,{absolute},1", files="")
    (case,) = read_table(path).cases
    assert case.image.samefile(tmp_path / "one/images/a.nii.gz")
    assert case.label == absolute


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,p,PET,,,images/a.nii.gz,,", "unknown modality"),
        ("a,p,,,,images/a.nii.gz,,", "unknown modality"),
        ("a,p,CT,,,images/zz.nii.gz,,", "image not found"),
        ("a,p,CT,,,,,", "no image is named"),
        ("a,p,CT,,,images/a.nii.gz,labels/zz.nii.gz,", "label not found"),
        ("a,p,CT,,,images/a.nii.gz,labels/a.nii.gz,1;14", "seen: 14; allowed: 1…13"),
        ("a,p,CT,,,images/a.nii.gz,labels/a.nii.gz,liver", "unknown organ id"),
        (",p,CT,,,images/a.nii.gz,,", "cannot name a file"),
        ("../a,p,CT,,,images/a.nii.gz,,", "cannot name a file"),
        ("..,p,CT,,,images/a.nii.gz,,", "cannot name a file"),
        ("x\\y,p,CT,,,images/a.nii.gz,,", "cannot name a file"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_and_does_not_stop_the_others(tmp_path, row, words):
    path = table(tmp_path, row, "b,p,CT,,,images/b.nii.gz,,")
    assert [case.id for case in read_table(path).cases] == ["b"]
    message = only_fault(path)
    assert "line 2 of cohort.csv" in message
    assert words in message


def test_both_rows_of_a_case_id_are_refused(tmp_path):
    path = table(tmp_path, *["a,p,CT,,,images/a.nii.gz,,"] * 2, "b,p,CT,,,images/b.nii.gz,,")
    read = read_table(path)
    assert [case.id for case in read.cases] == ["b"]
    assert [fault.case for fault in read.faults] == ["a", "a"]
    assert "stands 2 times" in str(read.faults[0])


def test_without_labels_these_columns_are_not_looked_at(tmp_path):
    path = table(tmp_path, "a,p,MR,T1,,images/a.nii.gz,no/such/file.nii.gz,99;nonsense")
    (case,) = read_table(path, FLARE, labels=False).cases
    assert case.label is None
    assert case.annotated is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "lacks the column case, patient, modality, image"),
        (b"case,patient,modality\na,b,CT\n", "lacks the column image"),
        (b"case;patient;modality;image\na;b;CT;x\n", "Separate the columns by commas"),
        (b"case,case,patient,modality,image\n", "column case more than once"),
        (HEAD.encode() + b"\n", "no case"),
        (HEAD.encode() + b"\n,,,,,,,\n", "no case"),
        (b"\xff\xfe\x00c", "UTF-8"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, content, words):
    (tmp_path / "cohort.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_table(tmp_path / "cohort.csv")
    assert words in str(caught.value)
    assert "cohort.csv" in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not found.*cohort\.csv"):
        read_table(tmp_path / "cohort.csv")


def test_a_written_table_comes_back(tmp_path):
    path = table(
        tmp_path,
        "a,p1,CT,,,images/a.nii.gz,labels/a.nii.gz,1;2;13",
        '"b, with comma",p2,MR,T1,T1 late,images/b.nii.gz,,',
    )
    before = read_table(path)
    assert not before.faults
    assert has_labels(path)
    write_table(tmp_path / "deep" / "cohort.csv", before.cases)
    text = (tmp_path / "deep" / "cohort.csv").read_text()
    assert str(tmp_path) not in text  # where the data lie may name a patient
    assert "../images/a.nii.gz" in text
    after = read_table(tmp_path / "deep" / "cohort.csv")
    for one, other in zip(before.cases, after.cases, strict=True):
        assert other.image.samefile(one.image)
        assert (other.id, other.patient, other.domain) == (one.id, one.patient, one.domain)
        assert other.annotated == one.annotated
