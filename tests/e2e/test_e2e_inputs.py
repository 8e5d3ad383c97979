"""What people bring: one case, a missing organ, a label on another grid, organs of their own."""

import shutil

import nibabel
import numpy as np
import pytest

import labelferry
from labelferry.cli import run as command
from labelferry.errors import UserError
from labelferry.organs import FLARE, Organ, OrganSet


class Notes:
    def __init__(self):
        self.texts = []

    def stage(self, name, state, text):
        pass

    def progress(self, what, done, total):
        pass

    def note(self, text, level):
        self.texts.append(text)


def few(cohort, folder, role, names, *, table=False):
    """Copy some cases of the phantom, without its table unless asked for."""
    out = folder / role
    for kind in ("images", "labels"):
        if (cohort / role / kind).is_dir():
            (out / kind).mkdir(parents=True)
            for name in names:
                shutil.copy(cohort / role / kind / f"{name}.nii.gz", out / kind)
    return out


def names(cohort, role):
    return sorted(p.name.removesuffix(".nii.gz") for p in (cohort / role / "images").iterdir())


def test_one_ct_and_one_mri(cohort, tiny, tmp_path):
    source = few(cohort, tmp_path, "source", names(cohort, "source")[:1])
    target = few(cohort, tmp_path, "target", names(cohort, "target")[:1])
    sets = (*tiny, "match.anchors=[]")
    result = labelferry.adapt(tmp_path / "run", source, target, size="demo", overrides=sets)
    assert result.exit_code == 0 and result.report.exists()


def test_an_organ_that_no_source_has_is_said_and_never_predicted(cohort, tiny, tmp_path):
    source = few(cohort, tmp_path, "source", names(cohort, "source"))
    for path in (source / "labels").iterdir():
        image = nibabel.load(path)
        array = np.asarray(image.dataobj).copy()
        array[array == 3] = 0
        nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), path)
    notes = Notes()
    labelferry.adapt(
        tmp_path / "run",
        source,
        cohort / "target",
        size="demo",
        overrides=tiny,
        until="teach",
        events=notes,
    )
    assert any("spleen" in text and "no source case" in text for text in notes.texts)
    assert any("annotat" in text for text in notes.texts), "the guess about annotation is said"


def test_a_label_on_another_grid_is_left_out_by_name(cohort, tiny, tmp_path, capsys):
    source = few(cohort, tmp_path, "source", names(cohort, "source"))
    victim = sorted((source / "labels").iterdir())[0]
    image = nibabel.load(victim)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[:, :, :-2], image.affine), victim)
    sets = [part for override in tiny for part in ("--set", override)]
    code = command(
        [
            "adapt",
            str(tmp_path / "run"),
            "--source",
            str(source),
            "--target",
            str(cohort / "target"),
            "--size",
            "demo",
            "--until",
            "prepare",
            *sets,
        ]
    )
    told = capsys.readouterr()
    assert code == 3
    assert victim.name.removesuffix(".nii.gz") in told.out and "left out" in told.out


def test_source_without_labels(cohort, tmp_path):
    with pytest.raises(UserError, match="label"):
        labelferry.adapt(tmp_path / "run", cohort / "target", cohort / "target", size="demo")
    assert not (tmp_path / "run").exists()


def test_organs_of_ones_own(cohort, tiny, tmp_path):
    """Three organs, another order, nothing hard-wired to 13."""
    mine = OrganSet((Organ(1, "spleen"), Organ(2, "liver"), Organ(3, "aorta")))
    back = {mine.named(name).id: FLARE.named(name).id for name in mine.names}
    source = few(cohort, tmp_path, "source", names(cohort, "source"))
    for path in (source / "labels").iterdir():
        image = nibabel.load(path)
        array = np.asarray(image.dataobj)
        out = np.zeros_like(array)
        for organ, flare in back.items():
            out[array == flare] = organ
        nibabel.save(nibabel.Nifti1Image(out, image.affine, image.header), path)
    result = labelferry.adapt(
        tmp_path / "run", source, cohort / "target", size="demo", overrides=tiny, organs=mine
    )
    model = labelferry.load_model(result.run)
    assert model.bundle.organs == mine
    image = next((cohort / "test" / "images").iterdir())
    assert model.predict(image).array.max() <= 3


def test_two_runs_in_one_folder(cohort, tiny, tmp_path):
    from labelferry.pipeline.runner import locked

    with locked(tmp_path / "run"), pytest.raises(UserError, match="in use"):
        labelferry.adapt(
            tmp_path / "run", cohort / "source", cohort / "target", size="demo", overrides=tiny
        )


@pytest.mark.parametrize("preset", ["only-ct", "asit"])
def test_rows_of_the_ladder_run(preset, cohort, tiny, tmp_path):
    result = labelferry.adapt(
        tmp_path / "run",
        cohort / "source",
        cohort / "target",
        preset=preset,
        size="demo",
        overrides=tiny,
        until="refine",
    )
    assert (result.run / "refine" / "model" / "bundle.json").exists()
