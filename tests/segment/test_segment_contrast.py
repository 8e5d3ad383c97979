"""Random contrasts: classes, shares, normalisation, and training on painted CT."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import labelferry
from labelferry.anatomy.config import AnatomyConfig
from labelferry.errors import UserError
from labelferry.io.nifti import read_image, write_volume
from labelferry.organs import Organ, OrganSet
from labelferry.pipeline.config import load_config
from labelferry.segment.bundle import read_bundle
from labelferry.segment.config import NetworkConfig, TrainConfig
from labelferry.segment.contrast import Contrast, draw_contrast, moments, paint
from labelferry.segment.curves import Scanner
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example, PatchSampler, load_examples
from labelferry.segment.plans import make_plans
from labelferry.segment.tissues import (
    BEYOND,
    Composition,
    Tissue,
    class_of_organ,
    classify,
)
from labelferry.volume import Grid, Segmentation, Volume

ORGANS = OrganSet(
    (Organ(1, "liver"), Organ(2, "right kidney", pair=3), Organ(3, "left kidney", pair=2))
)
LIVER, KIDNEY = len(Tissue), len(Tissue) + 1
WINDOW = (-200.0, 300.0)
SPACING = (5.0, 3.0, 3.0)
NETWORK = NetworkConfig(dimensions=2, patch=(16, 16), channels=4, downsamplings=2, context=1)
TRAIN = TrainConfig(
    epochs=2,
    iterations_per_epoch=2,
    batch=2,
    optimizer="adamw",
    learning_rate=1e-3,
    deep_supervision=False,
    checkpoint_seconds=1e-9,
)


def unit(hounsfield):
    low, high = WINDOW
    return np.asarray((np.clip(hounsfield, low, high) - low) / (high - low), np.float32)


def body(depth=4):
    """HU and labels of a block of fat with soft tissue, a liver and two kidneys in air."""
    hu = np.full((depth, 30, 32), -1000.0)
    labels = np.zeros(hu.shape, np.int16)
    hu[:, 3:27, 3:29] = -100
    hu[:, 6:24, 6:26] = 50
    hu[:, 8:16, 8:14], labels[:, 8:16, 8:14] = 110, 1
    hu[:, 8:12, 18:22], labels[:, 8:12, 18:22] = 180, 2
    hu[:, 16:20, 18:22], labels[:, 16:20, 18:22] = 180, 3
    return hu, labels


def flat(n, **given):
    """A contrast without scanner, texture and detail."""
    zero = np.zeros(n, np.float32)
    scanner = Scanner(np.zeros((2, 2), np.float32), blur=0.0, noise=0.0, seed=0)
    return Contrast(**{"level": zero, "gain": zero, "texture": zero, "grain": 0.0, "partial": 0.0,
                       "scanner": scanner, "seed": 0} | given)  # fmt: skip


def normalised(image, labels):
    """The image as training stores it, its classes and what it is made of."""
    classes = classify(image, labels, ORGANS, WINDOW, SPACING)
    composition = Composition.measure(image, classes, ORGANS)
    mean, deviation = composition.scale
    return ((image - mean) / deviation).astype(np.float32), classes, composition


def noisy(seed=0):
    hu, labels = body()
    hu += np.random.default_rng(seed).normal(0, 12, hu.shape)
    return normalised(unit(hu), labels)


def test_organs_of_a_pair_share_a_class():
    assert class_of_organ(ORGANS).tolist() == [0, LIVER, KIDNEY, KIDNEY]


def test_classes_by_hand():
    hu, labels = body()
    classes = classify(unit(hu), labels, ORGANS, WINDOW, SPACING)
    seen = {
        (0, 0): Tissue.AIR,
        (4, 15): Tissue.FAT,
        (22, 15): Tissue.SOFT,
        (12, 10): LIVER,
        (10, 20): KIDNEY,
        (18, 20): KIDNEY,
    }
    assert {where: int(classes[2][where]) for where in seen} == seen
    # organs keep their borders: 8·6 voxels of liver and 2·4·4 of kidney in each of 4 slices
    assert (classes == LIVER).sum() == 4 * 48 and (classes == KIDNEY).sum() == 4 * 32


@pytest.mark.parametrize(
    ("hu", "tissue"),
    [
        (-900, Tissue.AIR),
        (-100, Tissue.FAT),
        (0, Tissue.FLUID),
        (50, Tissue.SOFT),
        (120, Tissue.BRIGHT),
        (200, Tissue.MARROW),
        (280, Tissue.DENSE),
    ],
)
def test_each_tissue_has_its_hounsfield_units(hu, tissue):
    image = unit(np.full((2, 6, 6), float(hu)))
    classes = classify(image, np.zeros(image.shape, np.int16), ORGANS, WINDOW, SPACING)
    assert (classes[:, 1:-1, 1:-1] == tissue).all()


def test_unannotated_organs_are_painted_as_the_tissue_they_look_like():
    hu, labels = body()
    labels[labels == 1] = 0
    classes = classify(unit(hu), labels, ORGANS, WINDOW, SPACING)
    assert (classes[:, 10:14, 10:12] == Tissue.BRIGHT).all()
    assert (classes == LIVER).sum() == 0 and (classes == KIDNEY).sum() == 4 * 32


def test_gas_in_an_organ_is_air():
    hu, labels = body()
    hu[:, 10:14, 9:13] = -900
    classes = classify(unit(hu), labels, ORGANS, WINDOW, SPACING)
    assert (classes[:, 11:13, 10:12] == Tissue.AIR).all()


@pytest.mark.parametrize("window", [(-200.0, 300.0), (-125.0, 300.0)])
def test_air_is_found_where_it_was_clipped_to_nearly_fat(window):
    hu, labels = body()
    hu += np.random.default_rng(0).normal(0, 12, hu.shape)
    low, high = window
    hu = np.clip(hu, -125, 275)
    image = np.asarray((np.clip(hu, low, high) - low) / (high - low), np.float32)
    classes = classify(image, labels, ORGANS, window, SPACING)
    assert (classes[:, :, :2] == Tissue.AIR).all() and (classes[:, -2:] == Tissue.AIR).all()
    assert (classes[:, 9:21, 4] == Tissue.FAT).mean() > 0.95
    assert (classes[:, 10:14, 10:12] == LIVER).all()


def test_the_couch_is_air_and_lung_vessels_are_not():
    hu, labels = body(depth=2)
    hu = np.pad(hu, ((0, 0), (0, 8), (0, 0)), constant_values=-1000.0)
    labels = np.pad(labels, ((0, 0), (0, 8), (0, 0)))
    hu[:, 33, 2:30] = 60  # apart
    hu[:, 16:22, 8:14] = -900
    hu[:, 18:20, 10:12] = 60  # within gas
    classes = classify(unit(hu), labels, ORGANS, WINDOW, SPACING)
    assert (classes[:, 28:] == Tissue.AIR).all()
    assert (classes[:, 18:20, 10:12] != Tissue.AIR).all()
    assert (classes[:, 5:25, 4] == Tissue.FAT).all() and (classes[:, 4, 5:27] == Tissue.FAT).all()


def test_halfway_between_gas_and_soft_tissue_is_neither_fat():
    hu, labels = body()
    hu[:, 16:22, 8:14] = -900  # bowel gas, with a ring of voxels that are half gas
    hu[:, 15, 8:14] = hu[:, 22, 8:14] = hu[:, 16:22, 7] = hu[:, 16:22, 14] = -100
    labels[:] = 0
    classes = classify(unit(hu), labels, ORGANS, WINDOW, (5.0, 30.0, 30.0))  # not smoothed
    ring = np.concatenate([classes[:, 22, 9:13].ravel(), classes[:, 17:21, 7].ravel()])
    assert set(ring) <= {Tissue.AIR, Tissue.SOFT}
    assert (classes[:, 4, 6:26] == Tissue.FAT).all(), "the fat under the skin is kept"


def test_pieces_of_soft_tissue_apart_from_the_muscles_are_classes_of_their_own():
    hu = np.full((3, 40, 40), -100.0)
    hu[:, 2:12] = 50  # the largest piece
    hu[:, 18:26, 4:14] = 50
    hu[:, 18:26, 24:36] = 50
    classes = classify(unit(hu), np.zeros(hu.shape, np.int16), ORGANS, WINDOW, SPACING)
    assert (classes[:, 4:10] == Tissue.SOFT).all()
    found = {int(classes[1, 22, 9]), int(classes[1, 22, 30])}
    assert found == {Tissue.LOOPS, Tissue.OTHER_LOOPS}


def test_shares_and_values_by_hand():
    image = np.array([[[0.0, 0.0, 0.5, 0.7]]], np.float32)
    classes = np.array([[[Tissue.AIR, Tissue.AIR, Tissue.SOFT, Tissue.SOFT]]], np.int16)
    composition = Composition.measure(image, classes, ORGANS)
    assert composition.share[[Tissue.AIR, Tissue.SOFT, LIVER]].tolist() == [0.5, 0.5, 0.0]
    np.testing.assert_allclose(composition.middle[[Tissue.AIR, Tissue.SOFT]], [0, 0.6], atol=1e-7)
    np.testing.assert_allclose(composition.spread[[Tissue.AIR, Tissue.SOFT]], [0, 0.1], atol=1e-6)
    np.testing.assert_allclose(composition.scale, (0.3, np.sqrt(0.095)), atol=1e-6)
    for field in ("share", "middle", "drift", "spread", "scale"):
        again = getattr(Composition.from_array(composition.to_array()), field)
        np.testing.assert_array_equal(again, getattr(composition, field))


def test_painted_values_by_hand():
    image = np.array([[[0.0, 0.0, 0.5, 0.7]]], np.float32)
    classes = np.array([[[Tissue.AIR, Tissue.AIR, Tissue.SOFT, Tissue.SOFT]]], np.int16)
    composition = Composition.measure(image, classes, ORGANS)
    n = len(composition.share)
    level, gain = np.zeros(n, np.float32), np.zeros(n, np.float32)
    level[Tissue.SOFT], gain[Tissue.SOFT] = 0.8, -2.0
    patch = ((image - composition.scale[0]) / composition.scale[1]).astype(np.float32)
    out = paint(patch, classes, composition, flat(n, level=level, gain=gain))
    # brightness 0, 0, 1.0, 0.6: the brighter of the two soft voxels is the darker one now
    np.testing.assert_allclose(
        out[0, 0], (np.array([0, 0, 1.0, 0.6]) - 0.4) / np.sqrt(0.18), atol=1e-4
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_patch_has_the_normalisation_of_the_whole_painted_image(seed):
    patch, classes, composition = noisy()
    drawn = draw_contrast(np.random.default_rng(seed), len(composition.share), 2)
    still = flat(len(composition.share), level=drawn.level, gain=drawn.gain)
    whole = paint(patch, classes, composition, still)
    assert abs(whole.mean(dtype=float)) < 1e-4 and abs(whole.std(dtype=float) - 1) < 1e-4
    part = (slice(1, 3), slice(5, 20), slice(7, 19))
    np.testing.assert_array_equal(
        paint(patch[part], classes[part], composition, still), whole[part]
    )


@pytest.mark.parametrize("rician", [True, False])
def test_noise_and_texture_are_part_of_the_normalisation(rician):
    hu, labels = body(depth=40)
    patch, classes, composition = normalised(unit(hu), labels)
    rng = np.random.default_rng(1)
    n = len(composition.share)
    scanner = Scanner(np.zeros((2, 2), np.float32), 0.0, noise=0.08, seed=3, rician=rician)
    level, texture = rng.random(n, np.float32), np.full(n, 0.05, np.float32)
    for grain in (0.0, 1.5):
        out = paint(
            patch,
            classes,
            composition,
            flat(n, level=level, texture=texture, grain=grain, scanner=scanner),
        )
        assert abs(out.mean()) < 0.05 and abs(out.std() - 1) < 0.05


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["one slice", "slices", "volume"]))
def test_painted_patches_are_finite_and_repeat(seed, kind):
    patch, classes, composition = noisy()
    if kind == "one slice":
        patch, classes = patch[1:2], classes[1:2]
    if kind == "volume":
        patch, classes = patch[None], classes[None]
    before = patch.copy(), classes.copy()
    axes = patch.ndim - 1
    n = len(composition.share)
    one = draw_contrast(np.random.default_rng(seed), n, axes)
    again = draw_contrast(np.random.default_rng(seed), n, axes)
    assert json.dumps(one.to_json()) == json.dumps(again.to_json())
    out = paint(patch, classes, composition, one)
    np.testing.assert_array_equal(out, paint(patch, classes, composition, again))
    assert out.shape == patch.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.abs(out).max() < 50
    np.testing.assert_array_equal(patch, before[0])
    np.testing.assert_array_equal(classes, before[1])
    assert (one.level >= 0).all() and (one.level - 0.1 * np.abs(one.gain) > -1e-6).all()


def test_neighbouring_slices_share_the_contrast():
    hu, labels = body()  # four equal slices
    patch, classes, composition = normalised(unit(hu), labels)
    drawn = draw_contrast(np.random.default_rng(4), len(composition.share), 2)
    quiet = replace(
        drawn, texture=0 * drawn.texture, scanner=replace(drawn.scanner, noise=0.0, rician=False)
    )
    out = paint(patch, classes, composition, quiet)
    np.testing.assert_allclose(out, out[:1].repeat(4, 0), atol=1e-5)


def test_thick_slices_reach_into_each_other():
    image = np.zeros((3, 4, 4), np.float32)
    image[1] = 1
    still = Scanner(np.zeros((2, 2), np.float32), blur=0.0, noise=0.0, seed=0)
    thick = replace(still, thick=0.7)(image)
    assert thick[0].min() > 0.1 and thick[1].max() < 0.9
    volume = replace(still, bias=np.zeros((2, 2, 2), np.float32), thick=0.7)(image[None])
    np.testing.assert_allclose(volume[0], thick, atol=1e-6)
    np.testing.assert_array_equal(replace(still, thick=0.7)(image[1:2]), image[1:2])


def test_soft_borders_mix_the_levels():
    patch, classes, composition = noisy()
    n = len(composition.share)
    level = np.zeros(n, np.float32)
    level[LIVER] = 1
    mean, deviation = moments(composition, flat(n, level=level))
    soft = paint(patch, classes, composition, flat(n, level=level, partial=0.7)) * deviation + mean
    assert 0.2 < soft[1, 12, 7] < 0.5 < soft[1, 12, 8] < 0.8 and soft[1, 12, 11] > 0.95


def test_beyond_the_image_is_zero():
    patch, classes, composition = noisy()
    classes = classes.copy()
    classes[:, :, :5] = BEYOND
    drawn = draw_contrast(np.random.default_rng(0), len(composition.share), 2)
    assert not paint(patch, classes, composition, drawn)[:, :, :5].any()


@pytest.fixture
def examples(tmp_path):
    made = []
    grid = Grid((32, 30, 4), np.diag([3.0, 3.0, 5.0, 1.0]))
    for n, annotated in enumerate([{1, 2, 3}, {2, 3}]):
        hu, labels = body()
        image = unit(hu + np.random.default_rng(n).normal(0, 12, hu.shape))
        paths = tmp_path / f"{n}.nii.gz", tmp_path / f"{n}_label.nii.gz"
        write_volume(paths[0], Volume(image.transpose(2, 1, 0), grid))
        write_volume(paths[1], Segmentation(labels.transpose(2, 1, 0).astype(np.uint8), grid))
        known = frozenset(annotated)
        made.append(Example(f"c{n}", paths[:1], paths[1], known, randomise="paint", window=WINDOW))
    return made


def prepared_from(examples, folder):
    return load_examples(examples, ORGANS, make_plans(NETWORK, SPACING, 1, batch=2), folder)


def test_stored_classes_know_only_annotated_organs(examples, tmp_path):
    first, second = prepared_from(examples, tmp_path / "cache")
    assert first.classes.shape == first.labels.shape == first.data.shape[1:]
    assert (np.asarray(first.classes) == LIVER).sum() == 4 * 48
    assert (np.asarray(second.classes) == LIVER).sum() == 0 and second.composition.share[LIVER] == 0
    mean, deviation = first.composition.scale
    plain = np.asarray(first.data[0]) * deviation + mean
    # preprocessing cut the air away: it is zero
    np.testing.assert_allclose(
        plain, read_image(examples[0].channels[0]).volume.array.T[:, 3:27, 3:29], atol=1e-5
    )
    assert abs(first.composition.middle[Tissue.FAT] - unit(-100.0)) < 0.03


def test_classes_of_a_patch_go_with_its_slices(examples, tmp_path):
    (case, _) = prepared_from(examples, tmp_path / "cache")
    sampler = PatchSampler([case], (40, 40), 0.0, False, context=1)  # larger than the image
    patch = sampler.draw(np.random.default_rng(0))
    assert patch.classes.shape == patch.data.shape == (3, 40, 40)
    inside = patch.classes != BEYOND
    assert inside.sum() == 3 * 24 * 26 and (patch.classes[1] == KIDNEY).sum() == 32
    volume = PatchSampler([case], (4, 16, 16), 0.0, False).draw(np.random.default_rng(0))
    assert volume.classes.shape == volume.data.shape == (1, 4, 16, 16)
    assert PatchSampler([replace(case, classes=None)], (8, 8), 0.0, False).draw(
        np.random.default_rng(0)
    ).classes is None  # fmt: skip


def train(examples, folder, **kw):
    task = Task("test", ORGANS, "plain", AnatomyConfig(spacing=(3, 3, 5)), NETWORK)
    return read_bundle(train_model(examples, task, TRAIN, folder, seed=5, device="cpu", **kw))[1]


def test_training_on_painted_ct_repeats_and_resumes(examples, tmp_path):
    class KilledError(Exception):
        pass

    def kill(step, _):
        if step == 3:
            raise KilledError

    whole = train(examples, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(examples, tmp_path / "killed", progress=kill)
    resumed = train(examples, tmp_path / "killed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    logs = [(tmp_path / f / "contrasts.jsonl").read_text() for f in ("whole", "killed")]
    assert logs[0] == logs[1]
    rows = [json.loads(line) for line in logs[0].splitlines()]
    assert [row["sample"] for row in rows] == list(range(8))  # 4 steps of 2 patches
    assert len(rows[0]["level"]) == KIDNEY + 1


def test_painting_needs_plain_images_of_their_own_normalisation():
    for kind in ("paint", "convolutions"):
        mix = f"teach.mix={{ct=0.0, curves=0.0, {kind}=1.0, fake=0.0}}"
        assert getattr(load_config("only-ct", "demo", [mix]).teach.mix, kind) == 1
        with pytest.raises(UserError, match=rf"mix\.{kind} repaints plain images"):
            load_config("only-ct", "demo", [mix, "teach.space='anatomy'"])
        with pytest.raises(UserError, match=rf"mix\.{kind} .*mean and SD"):
            load_config("only-ct", "demo", [mix, "teach.normalisation='dataset'"])
    with pytest.raises(UserError, match="paint and fake must be above 0"):
        load_config("only-ct", "demo", ["teach.mix.ct=0.0"])


class StoppedError(Exception):
    """Stands for a kill."""


class StopInTraining:
    """Events that end the run after some steps of a training."""

    def stage(self, name, state, text):
        pass

    def progress(self, what, done, total):
        if what == "teacher steps" and done == 5:
            raise StoppedError

    def note(self, text, level):
        pass


def test_a_teacher_of_painted_ct_is_the_same_twice_and_after_a_kill(cohort, tiny, tmp_path):
    mix = "teach.mix={ct=0.2, curves=0.2, convolutions=0.2, paint=0.4, fake=0.0}"
    overrides = [*tiny, mix, "teach.train.curves_p=1.0"]
    given = {"preset": "only-ct", "size": "demo", "until": "teach", "overrides": overrides}
    folders = cohort / "source", cohort / "target"
    labelferry.adapt(tmp_path / "whole", *folders, **given)
    with pytest.raises(StoppedError):
        labelferry.adapt(tmp_path / "killed", *folders, events=StopInTraining(), **given)
    labelferry.adapt(tmp_path / "killed", *folders, **given)
    for name in ("model/weights.safetensors", "losses.jsonl", "contrasts.jsonl"):
        one, other = (tmp_path / run / "teach" / name for run in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes(), name
    bundle = json.loads((tmp_path / "whole/teach/model/bundle.json").read_text())
    rows = bundle["provenance"]["examples"]
    assert {row["randomise"] for row in rows} == {"none", "curves", "convolutions", "paint"}


@pytest.mark.parametrize("kind", ["paint", "convolutions"])
def test_students_may_see_randomised_ct(kind, cohort, tiny, tmp_path):
    given = ["refine.source_share=0.5", f"refine.source_kind='{kind}'", "match.enabled=false"]
    run = tmp_path / "run"
    labelferry.adapt(
        run,
        cohort / "source",
        cohort / "target",
        preset="only-ct",
        size="demo",
        until="refine",
        overrides=[*tiny, "refine.select.rounds=1", *given],
    )
    bundle = json.loads((run / "refine/model/bundle.json").read_text())
    rows = {row["randomise"]: row for row in bundle["provenance"]["examples"]}
    assert rows[kind]["cases"] == 3
    # half of the weight: 3 CT weigh as much as all MRI
    assert rows[kind]["weight"] * 3 == pytest.approx(rows["none"]["cases"])
