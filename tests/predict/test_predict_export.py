from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from labelferry.predict import export
from labelferry.predict.config import Export
from labelferry.predict.export import export_labels, fast_labels, keep_largest

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))
ONE = (1.0, 1.0, 1.0)


def draw_logits(seed: int, classes: int, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(classes, *shape)).astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.integers(2, 5), st.integers(1, 400), st.integers(0, 2**16))
def test_fast_is_the_arg_max_of_trilinear_scores(
    old: tuple[int, ...], new: tuple[int, ...], classes: int, slab: int, seed: int
) -> None:
    logits = draw_logits(seed, classes, old)
    scores = functional.interpolate(logits[None], new, mode="trilinear", align_corners=False)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_SLAB_VOXELS", slab)
        labels = fast_labels(logits, new)
    chosen = scores.gather(0, labels.long()[None])[0]
    # rounding may swap two classes whose scores are the same to seven digits
    torch.testing.assert_close(chosen, scores.amax(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("how", ["fast", "exact"])
def test_nothing_changes_on_an_equal_grid(how: Export, dtype: torch.dtype) -> None:
    logits = draw_logits(0, 4, (5, 6, 7)).to(dtype)
    labels = export_labels(logits, (5, 6, 7), how, spacing=ONE, new_spacing=ONE)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, logits.argmax(0).numpy())


@pytest.mark.parametrize(
    ("spacing", "new_spacing"),
    [
        ((5.0, 3.2, 3.2), (2.5, 1.6, 1.6)),  # all axes alike
        ((5.0, 1.2, 1.2), (8.0, 0.6, 0.6)),  # z apart
        ((1.2, 5.0, 1.2), (0.6, 8.0, 0.6)),  # y apart
    ],
)
def test_exact_is_nnunets_export(
    spacing: tuple[float, ...], new_spacing: tuple[float, ...]
) -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    shape = (6, 9, 11)
    new = tuple(round(n * a / b) for n, a, b in zip(shape, spacing, new_spacing, strict=True))
    logits = draw_logits(1, 5, shape)
    expected = resample_data_or_seg_to_shape(
        logits.numpy(), new, spacing, new_spacing, order=1, order_z=0, force_separate_z=None
    ).argmax(0)
    labels = export_labels(logits, new, "exact", spacing=spacing, new_spacing=new_spacing)
    np.testing.assert_array_equal(labels, expected)


def test_paper_thresholds_before_it_resamples() -> None:
    logits = torch.tensor([[-1.0, -1.0, 3.0, -2.0], [1.0, -0.5, 2.0, -1.0], [0.5, -1.0, 1.0, 4.0]])
    labels = export_labels(
        logits[:, None, None, :], (1, 1, 8), "paper", spacing=ONE, new_spacing=ONE
    )
    # organ 1; none above 0.5; background is the largest; organ 2
    assert labels.ravel().tolist() == [1, 1, 0, 0, 0, 0, 2, 2]


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, st.integers(0, 2**16))
def test_paper_invents_no_label(old: tuple[int, ...], new: tuple[int, ...], seed: int) -> None:
    logits = draw_logits(seed, 3, old)
    labels = export_labels(logits, new, "paper", spacing=ONE, new_spacing=ONE)
    assert labels.shape == new
    whole = export_labels(logits, old, "paper", spacing=ONE, new_spacing=ONE)
    assert set(np.unique(labels)) <= set(np.unique(whole))


def test_the_memory_does_not_grow_with_the_classes() -> None:
    class Once:
        """Scores of 200 classes, of which one at a time may be asked."""

        shape = (200, 4, 8, 8)
        device = torch.device("cpu")

        def __len__(self) -> int:
            return 200

        def __getitem__(self, key: object) -> torch.Tensor:
            c, planes = key  # type: ignore[misc]
            assert isinstance(c, int)
            return draw_logits(c, 4, (8, 8))[planes]

    labels = fast_labels(Once(), (8, 16, 16))  # type: ignore[arg-type]
    assert labels.max() > 100


def test_keeps_the_largest_part_of_each_organ() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:2, :2, :2] = 1
    labels[4, 4, 4] = 1
    labels[3, 0, 0] = 2
    kept = keep_largest(labels)
    assert (kept == 1).sum() == 8
    assert (kept == 2).sum() == 1
