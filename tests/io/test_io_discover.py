from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from io_scene import ct, labels, mr, save, source, target

import labelferry.io.bids
import labelferry.io.discover
import labelferry.io.folders
from labelferry.errors import UserError
from labelferry.io.discover import Discovery, discover, guess_role
from labelferry.io.table import COLUMNS
from labelferry.organs import FLARE

HEAD = ",".join(COLUMNS) + "\n"


def ids(found: Discovery) -> list[str]:
    return [case.id for case in found.cohort]


def text_of(found: Discovery) -> str:
    return "\n".join(f"{n.severity} {n.case}: {n.text}" for n in (*found.refused, *found.notes))


# --- layouts


def test_a_labelled_source(tmp_path):
    found = discover(source(tmp_path, "a", "b"), "source", FLARE)
    assert ids(found) == ["a", "b"]
    case = found.cohort["a"]
    assert (case.patient, case.modality, case.sequence, case.domain) == ("a", "CT", "CT", "CT")
    assert case.image == tmp_path / "images" / "a.nii.gz"
    assert case.label == tmp_path / "labels" / "a.nii.gz"
    assert case.annotated is None
    (note,) = found.notes
    assert note.severity == "info"
    assert "annotated" in note.text
    assert not found.refused


def test_a_target_by_its_file_names(tmp_path):
    found = discover(target(tmp_path, "p1_T1", "p1_dwi", "p2_T2w"), "target", FLARE)
    assert [(c.patient, c.modality, c.sequence, c.domain) for c in found.cohort] == [
        ("p1", "MR", "T1", "T1"),
        ("p1", "MR", "DWI", "DWI"),
        ("p2", "MR", "T2", "T2"),
    ]
    assert not found.notes


def test_a_plain_folder_is_a_target(tmp_path):
    save(tmp_path / "p1_T1.nii.gz", mr())
    save(tmp_path / "p1_T2.nii", mr())
    assert ids(discover(tmp_path, "target", FLARE)) == ["p1_T1", "p1_T2"]


def test_a_single_file_is_a_target(tmp_path):
    path = save(tmp_path / "p1_T1_0000.nii.gz", mr())
    (case,) = discover(path, "target", FLARE).cohort
    assert (case.id, case.patient, case.sequence, case.image) == ("p1_T1", "p1", "T1", path)


def test_unknown_sequences_are_said_aloud_once(tmp_path):
    found = discover(target(tmp_path, "good", "mr_7", "p_T1"), "target", FLARE)
    assert [c.sequence for c in found.cohort] == ["unknown", "unknown", "T1"]
    assert [c.patient for c in found.cohort] == ["good", "mr_7", "p"]
    (note,) = found.notes
    assert "good, mr_7" in note.text
    assert "cohort.csv" in (note.fix or "")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a_T1_0000", "b_T2_0000"], ["a_T1", "b_T2"]),
        (["a_0000", "a_0001"], ["a_0000", "a_0001"]),
        (["a_0000", "b"], ["a_0000", "b"]),
    ],
)
def test_the_channel_goes_where_all_carry_it(tmp_path, names, expected):
    assert ids(discover(target(tmp_path, *names), "target", FLARE)) == expected


def test_labels_pair_with_images_of_one_channel(tmp_path):
    save(tmp_path / "images" / "a_0000.nii.gz", ct())
    save(tmp_path / "labels" / "a.nii.gz", labels())
    (case,) = discover(tmp_path, "source", FLARE).cohort
    assert (case.id, case.label) == ("a", tmp_path / "labels" / "a.nii.gz")


def test_case_ids_keep_their_dots(tmp_path):
    names = ["1.3.6.1.0175", "1.3.6.1.0176", "1.v2.nii"]
    assert ids(discover(source(tmp_path, *names), "source", FLARE)) == names


def test_suffixes_of_any_case(tmp_path):
    for name in ("UPPER.NII.GZ", "Mixed.Nii", "low.nii.gz"):
        save(tmp_path / "images" / name, mr())
    assert ids(discover(tmp_path, "target", FLARE)) == ["Mixed", "UPPER", "low"]


# --- the table


def test_a_table_is_read_where_there_is_one(tmp_path):
    source(tmp_path, "a", "b")
    (tmp_path / "cohort.csv").write_text(
        HEAD + "one,p7,CT,,,images/a.nii.gz,labels/a.nii.gz,1;2;3\n"
        "two,p7,CT,,,images/b.nii.gz,labels/b.nii.gz,\n"
    )
    for path in (tmp_path, tmp_path / "cohort.csv"):
        found = discover(path, "source", FLARE)
        assert ids(found) == ["one", "two"]
        assert found.cohort["one"].annotated == {1, 2, 3}
        assert found.cohort["two"].annotated is None
        assert not found.notes


def test_images_that_the_table_leaves_out_are_named(tmp_path):
    target(tmp_path, "a", "b", "c")
    (tmp_path / "cohort.csv").write_text(HEAD + "a,p,MR,T1,,images/a.nii.gz,,\n")
    found = discover(tmp_path, "target", FLARE)
    assert "2 images not in the table, left out: b.nii.gz, c.nii.gz" in text_of(found)


def test_bad_rows_and_rows_without_label_are_refused(tmp_path):
    source(tmp_path, "a", "b")
    (tmp_path / "cohort.csv").write_text(
        HEAD + "a,p,CT,,,images/a.nii.gz,labels/a.nii.gz,1\n"
        "b,p,CT,,,images/b.nii.gz,,\n"
        "c,p,CT,,,images/c.nii.gz,labels/c.nii.gz,1\n"
    )
    found = discover(tmp_path, "source", FLARE)
    assert ids(found) == ["a"]
    assert {note.case for note in found.refused} == {"b", "c"}
    assert "line 4 of cohort.csv: image not found" in text_of(found)
    assert "label missing" in text_of(found)


def test_a_table_without_any_label_is_no_source(tmp_path):
    target(tmp_path, "a")
    (tmp_path / "cohort.csv").write_text(HEAD + "a,p,CT,,,images/a.nii.gz,,\n")
    with pytest.raises(UserError, match="no case of the table has a label"):
        discover(tmp_path, "source", FLARE)


def test_modalities_and_domains_that_surprise_are_said(tmp_path):
    target(tmp_path, "a", "b")
    (tmp_path / "cohort.csv").write_text(
        HEAD + "a,p,MR,T1,,images/a.nii.gz,,\nb,p,CT,t1,,images/b.nii.gz,,\n"
    )
    text = text_of(discover(tmp_path, "target", FLARE))
    assert "1 case of modality CT in the target: b" in text
    assert "domains that differ only in upper and lower case: T1, t1" in text


# --- labels of a target are never looked at


def test_a_target_never_touches_labels(tmp_path, monkeypatch):
    target(tmp_path, "a", "b")
    save(tmp_path / "labels" / "a.nii.gz", labels())
    listed: list[Path] = []
    listing = labelferry.io.folders.listing
    for room in (labelferry.io.folders, labelferry.io.discover, labelferry.io.bids):
        monkeypatch.setattr(
            room, "listing", lambda folder: listed.append(folder) or listing(folder)
        )
    found = discover(tmp_path, "target", FLARE)
    assert ids(found) == ["a", "b"]
    assert all(case.label is None and case.annotated is None for case in found.cohort)
    assert set(listed) == {tmp_path / "images"}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions")
def test_a_target_with_closed_labels_is_fine(tmp_path):
    target(tmp_path, "a")
    (tmp_path / "labels").mkdir(mode=0)
    assert ids(discover(tmp_path, "target", FLARE)) == ["a"]


def test_a_targets_label_columns_are_ignored(tmp_path):
    target(tmp_path, "a")
    (tmp_path / "cohort.csv").write_text(HEAD + "a,p,MR,T1,,images/a.nii.gz,gone.nii.gz,77\n")
    found = discover(tmp_path, "target", FLARE)
    (case,) = found.cohort
    assert case.label is None
    assert case.annotated is None
    assert not found.refused


# --- faults


def test_pairing_is_by_name(tmp_path):
    source(tmp_path, "good")
    save(tmp_path / "images" / "nolabel.nii.gz", ct())
    save(tmp_path / "labels" / "noimage.nii.gz", labels())
    found = discover(tmp_path, "source", FLARE)
    assert ids(found) == ["good"]
    assert {note.case for note in found.refused} == {"nolabel", "noimage"}
    assert "nolabel.nii.gz has no label map (label missing)" in text_of(found)
    assert "noimage.nii.gz has no image of the same name (image missing)" in text_of(found)


def test_both_files_of_a_case_id_are_refused(tmp_path):
    target(tmp_path, "dup", "good", "DUP")
    save(tmp_path / "images" / "dup.nii", mr(5))
    found = discover(tmp_path, "target", FLARE)
    assert ids(found) == ["DUP", "good"]
    (note,) = found.refused
    assert note.case == "dup"
    assert "dup.nii and dup.nii.gz" in note.text


def test_two_label_files_of_a_case_are_refused(tmp_path):
    source(tmp_path, "a", "b")
    save(tmp_path / "labels" / "a.nii", labels())
    found = discover(tmp_path, "source", FLARE)
    assert ids(found) == ["b"]
    assert "two label files have the same case id: a.nii and a.nii.gz" in text_of(found)


def test_ids_that_a_case_blind_disk_confuses_are_said(tmp_path):
    found = discover(target(tmp_path, "Case", "case"), "target", FLARE)
    if len(found.cohort) == 2:
        assert "case ids that differ only in upper and lower case: Case, case" in text_of(found)


def test_junk_is_ignored(tmp_path):
    source(tmp_path, "a", "b")
    for name in (
        ".DS_Store",
        "._a.nii.gz",
        "Thumbs.db",
        "a.nii.gz~",
        ".part-x.nii.gz",
        "notes.txt",
    ):
        (tmp_path / "images" / name).write_text("junk")
        (tmp_path / "labels" / name).write_text("junk")
    (tmp_path / "images" / "__MACOSX").mkdir()
    (tmp_path / "images" / "__MACOSX" / "._b.nii.gz").write_text("junk")
    found = discover(tmp_path, "source", FLARE)
    assert ids(found) == ["a", "b"]
    assert not found.refused
    assert all("annotated" in note.text for note in found.notes)


def test_other_formats_are_named(tmp_path):
    save(tmp_path / "a.nii.gz", mr())
    for name in ("c.nrrd", "d.MHA", "e.hdr", "e.img", "f.dcm"):
        (tmp_path / name).write_text("x")
    found = discover(tmp_path, "target", FLARE)
    assert ids(found) == ["a", "c", "d"]
    (warning,) = (note for note in found.notes if note.severity == "warning")
    assert "left out: e.hdr, f.dcm" in warning.text


def test_many_names_become_few(tmp_path):
    save(tmp_path / "a.nii.gz", mr())
    for number in range(300):
        (tmp_path / f"{number:03}.dcm").touch()
    found = discover(tmp_path, "target", FLARE)
    assert "300 files in a format" in text_of(found)
    assert max(len(note.text) for note in found.notes) < 300


def test_folders_and_broken_links_named_like_images_are_refused(tmp_path):
    target(tmp_path, "a")
    (tmp_path / "images" / "b.nii.gz").mkdir()
    if sys.platform != "win32":
        (tmp_path / "images" / "c.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    found = discover(tmp_path, "target", FLARE)
    assert ids(found) == ["a"]
    assert "b.nii.gz is a folder or a broken link" in text_of(found)


@pytest.mark.parametrize("role", ["source", "target"])
def test_a_missing_folder_is_named(tmp_path, role):
    with pytest.raises(UserError, match=r"no such file or folder.*nowhere"):
        discover(tmp_path / "nowhere", role, FLARE)


@pytest.mark.parametrize("junk", [None, "readme.txt", "scan.dcm", ".hidden.nii.gz"])
def test_a_folder_without_image_is_named(tmp_path, junk):
    (tmp_path / "mr" / "images").mkdir(parents=True)
    if junk:
        (tmp_path / "mr" / "images" / junk).touch()
    with pytest.raises(UserError, match="has no image") as caught:
        discover(tmp_path / "mr", "target", FLARE)
    assert str(Path("mr") / "images") in str(caught.value)
    if junk and not junk.startswith("."):
        assert junk in str(caught.value)


def test_the_folder_above_says_what_it_holds(tmp_path):
    target(tmp_path / "mr", "a")
    with pytest.raises(UserError, match=r"has no image.*seen: mr/"):
        discover(tmp_path, "target", FLARE)


def test_a_source_needs_labels(tmp_path):
    target(tmp_path, "a")
    with pytest.raises(UserError, match="needs folders images/ and labels/"):
        discover(tmp_path, "source", FLARE)
    save(tmp_path / "labels" / "a.nii.gz", labels())
    with pytest.raises(UserError, match="Give its parent folder"):
        discover(tmp_path / "images", "source", FLARE)
    with pytest.raises(UserError, match="a single image has no label"):
        discover(tmp_path / "images" / "a.nii.gz", "source", FLARE)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.mgz").touch()
    with pytest.raises(UserError, match=r"not an image that is read .*Convert it to NIfTI"):
        discover(tmp_path / "a.mgz", "target", FLARE)


def test_no_image_is_opened(tmp_path):
    source(tmp_path, "a")
    for path in tmp_path.rglob("*.nii.gz"):
        path.write_bytes(b"")
    assert ids(discover(tmp_path, "source", FLARE)) == ["a"]


# --- roles


def test_roles_are_guessed_from_labels(tmp_path):
    assert guess_role(source(tmp_path / "ct", "a")) == "source"
    assert guess_role(target(tmp_path / "mr", "a")) == "target"
    assert guess_role(tmp_path / "mr" / "images" / "a.nii.gz") == "target"
    table = tmp_path / "mr" / "cohort.csv"
    table.write_text(HEAD + "a,p,MR,T1,,images/a.nii.gz,,\n")
    assert guess_role(tmp_path / "mr") == "target"
    table.write_text(HEAD + "a,p,CT,,,images/a.nii.gz,l.nii.gz,\n")
    assert guess_role(tmp_path / "mr") == guess_role(table) == "source"
