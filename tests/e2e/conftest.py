"""A tiny phantom and tiny networks: the whole chain in seconds."""

import pytest

from labelferry.phantom.cohort import write_cohort
from labelferry.phantom.frame import PhantomGrid

TINY_NETWORK = (
    "{dimensions=2, patch=[16, 32], channels=4, max_channels=16, downsamplings=2, context=0}"
)
TINY_TRAIN = (
    "{epochs=3, iterations_per_epoch=4, batch=2, optimizer='adamw', learning_rate=0.003, "
    "deep_supervision=false, batch_dice=true, dice_smooth=1.0, checkpoint_seconds=1e-9}"
)
TINY = (
    "threads=1",
    "workers=1",
    "prepare.spacing=[9.6, 9.6, 15.0]",
    "translate.iterations=12",
    "translate.checkpoint_every=3",
    "translate.channels=4",
    "translate.blocks=1",
    "translate.discriminator_channels=4",
    "translate.crop=[32, 16]",
    "translate.batch=2",
    *(f"{s}.network={TINY_NETWORK}" for s in ("teach", "refine", "distil")),
    *(f"{s}={TINY_TRAIN}" for s in ("teach.train", "refine.train", "refine.later", "distil.train")),
    "refine.select.prior_filter=false",
    "match.iterations=3",
    "match.anchors=['T1']",
    "match.candidates=2",
    "report.slices_per_case=2",
    "report.max_cases=6",
)
"""Overrides that make any preset tiny."""


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """3 CT, 4 MRI patients, 1 test patient, coarse voxels."""
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(
        folder / "cohort",
        ct=3,
        mri=6,
        test=1,
        seed=3,
        workers=1,
        grid=PhantomGrid.of_spacing((9.6, 9.6, 15.0)),
    )
    return folder / "cohort"


@pytest.fixture(scope="session")
def tiny():
    return TINY
