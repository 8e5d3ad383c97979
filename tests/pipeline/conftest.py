"""A run whose teacher is played by hand, so that later stages run without any training."""

import numpy as np
import pytest

import labelferry
from labelferry.anatomy.prepare import prepare_labels
from labelferry.io.nifti import read_labels, write_volume
from labelferry.organs import FLARE
from labelferry.pipeline.plausible import judge, write_plausibility
from labelferry.pipeline.prepared import prepared_cases, read_prior
from labelferry.volume import Segmentation


@pytest.fixture(scope="session")
def taught(cohort, tiny, tmp_path_factory):
    """A run after ``teach``: labels of T1 are true, those of the others lie two voxels aside."""
    run = tmp_path_factory.mktemp("taught") / "run"
    labelferry.adapt(
        run, cohort / "source", cohort / "target", size="demo", overrides=tiny, until="prepare"
    )
    cases = prepared_cases(run / "prepare", "target")
    for case in cases:
        truth = read_labels(cohort / "truth" / "target" / f"{case.id}.nii.gz", FLARE)
        labels = prepare_labels(truth, case.read())
        if case.domain != "T1":
            labels = Segmentation(np.roll(labels.array, 2, axis=0), labels.grid)
        write_volume(run / "teach" / "labels" / f"{case.id}.nii.gz", labels)
    judged = judge(cases, run / "teach" / "labels", read_prior(run / "prepare"), FLARE)
    write_plausibility(run / "teach" / "plausibility.json", judged, cases)
    return run
