"""What all tests share: one thread a process, and a tiny phantom with tiny networks."""

import os

# small tensors: more threads only wait for each other, and a fixed number gives fixed bits
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

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


@pytest.fixture(scope="session")
def tiny():
    """Overrides that make any preset run in seconds."""
    return TINY


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """3 CT, 6 MRI patients (10 images), 1 test patient, coarse voxels."""
    from labelferry.phantom.cohort import write_cohort
    from labelferry.phantom.frame import PhantomGrid

    folder = tmp_path_factory.mktemp("phantom")
    grid = PhantomGrid.of_spacing((9.6, 9.6, 15.0))
    write_cohort(folder / "cohort", ct=3, mri=6, test=1, seed=3, grid=grid)
    return folder / "cohort"
