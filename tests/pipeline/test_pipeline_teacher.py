"""A model of nnU-Net in the teacher's place."""

import numpy as np
import pytest

import labelferry
from labelferry.anatomy.prepare import prepare_labels
from labelferry.errors import UserError
from labelferry.io.nifti import read_labels
from labelferry.organs import FLARE
from labelferry.pipeline.chain import dry_run, find_input
from labelferry.pipeline.config import load_config, taught_by
from labelferry.pipeline.events import Silent
from labelferry.pipeline.hours import trainings
from labelferry.pipeline.prepared import prepared_cases
from labelferry.predict.foreign import load_foreign
from nnunet_folder import write_folder

# the numbering is another one than ours: upside down, and with a structure that is none of ours
NAMES = ["tumour", *reversed(FLARE.names)]
LABELS = {"background": 0, **{name: n for n, name in enumerate(NAMES, start=1)}}
SPACING = (15.0, 9.6, 9.6)


def test_its_labels_take_the_place_of_a_training(cohort, tiny, tmp_path):
    teacher = write_folder(tmp_path / "nnunet", LABELS, SPACING, folds=1)
    run, source, target = tmp_path / "run", cohort / "source", cohort / "target"
    result = labelferry.adapt(
        run, source, target, size="demo", overrides=tiny, teacher=teacher, until="refine"
    )
    assert "by a model of nnU-Net" in result.manifests["teach"].summary["text"]
    assert not (run / "teach" / "model").exists() and not (run / "translate" / "fake").exists()
    assert (run / "refine" / "model" / "bundle.json").exists()
    data, _ = find_input(source, target, FLARE, Silent())
    case = prepared_cases(run / "prepare", "target")[0]
    (image,) = (c.image for c in data.target if c.id == case.id)
    found = load_foreign(teacher).predict(image)
    ours = np.array([0, 0, *reversed(range(1, 14))], np.uint8)[found.array]
    expected = prepare_labels(found.with_array(ours), case.read()).array
    labels = read_labels(run / "teach" / "labels" / f"{case.id}.nii.gz", FLARE).array
    # the default preset keeps the largest part of each organ
    assert np.array_equal(labels[labels > 0], expected[labels > 0]) and (labels > 0).any()

    config = load_config("default", "demo", (*tiny, *taught_by(teacher)))
    assert {row.state for row in dry_run(run, config, data, "refine")} == {"unchanged"}
    write_folder(teacher, LABELS, SPACING, folds=2)
    states = [row.state for row in dry_run(run, config, data, "teach")]
    assert states == ["unchanged", "unchanged", "to do"], "other weights are another teacher"


def test_a_teacher_that_knows_too_little_is_refused(cohort, tiny, tmp_path):
    labels = {"background": 0, "liver": 1, "spleen": 2}
    teacher = write_folder(tmp_path / "nnunet", labels, SPACING, folds=1)
    with pytest.raises(UserError, match=r"does not know every organ.*right kidney"):
        labelferry.adapt(
            tmp_path / "run",
            cohort / "source",
            cohort / "target",
            size="demo",
            overrides=tiny,
            teacher=teacher,
            until="teach",
        )


def test_nothing_is_translated_or_trained_for_it(tmp_path):
    config = load_config("default", "demo", taught_by(tmp_path / 'a folder, "quoted"'))
    assert config.teacher.endswith('"quoted"') and not config.translate.enabled
    assert dict(trainings(config, "refine")) == {"translator": 0, "round 1": 1000, "round 2": 160}
