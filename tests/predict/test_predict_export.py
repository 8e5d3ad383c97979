from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from labelferry.predict import stream
from labelferry.predict.config import Export
from labelferry.predict.export import (
    exact_labels,
    export_labels,
    export_slabs,
    fast_labels,
)
from labelferry.segment.resampling import Resampling

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))
ONE = (1.0, 1.0, 1.0)
MM = st.sampled_from([0.8, 1.2, 1.2, 3.0, 5.0])


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
        patch.setattr(stream, "CHUNK_VOXELS", slab)
        labels = torch.from_numpy(fast_labels([logits], old, new))
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


@settings(max_examples=60, deadline=None)
@given(
    SIZES,
    SIZES,
    st.tuples(MM, MM, MM),
    st.tuples(MM, MM, MM),
    st.lists(st.integers(1, 4), min_size=1, max_size=9),
    st.sampled_from([(1, 0), (1, 1), (3, 0), (0, 0)]),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_exact_from_slabs_is_nnunets_export(
    old: tuple[int, ...],
    new: tuple[int, ...],
    spacing: tuple[float, ...],
    new_spacing: tuple[float, ...],
    depths: list[int],
    orders: tuple[int, int],
    half: bool,
    seed: int,
) -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    logits = draw_logits(seed, 4, old).to(torch.float16 if half else torch.float32)
    expected = resample_data_or_seg_to_shape(
        logits.numpy(), new, spacing, new_spacing, order=orders[0], order_z=orders[1],
        force_separate_z=None,
    )  # fmt: skip
    how = Resampling(*orders, None)
    labels = exact_labels(cut(logits, depths), old, new, spacing, new_spacing, how)
    assert labels.shape == new
    chosen = np.take_along_axis(expected, labels[None].astype(int), 0)[0]
    # rounding may swap two classes whose scores are the same to the last digits
    np.testing.assert_allclose(chosen, expected.max(0), atol=2e-3 if half else 2e-5)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(0, 2**16))
def test_the_slabs_do_not_matter(
    old: tuple[int, ...], new: tuple[int, ...], depths: list[int], seed: int
) -> None:
    logits = draw_logits(seed, 3, old)
    for how in ("fast", "exact", "paper"):
        args: dict[str, Any] = {"spacing": (5.0, 1.0, 1.0), "new_spacing": (4.0, 1.0, 1.0)}
        whole = export_labels(logits, new, how, **args)
        parts = export_slabs(cut(logits, depths), old, new, how, **args)
        np.testing.assert_array_equal(parts, whole)


def cut(logits: torch.Tensor, depths: list[int]) -> Iterator[torch.Tensor]:
    """Slabs of the given depths, over and over, that are overwritten as those of ``scan`` are."""
    start = 0
    for depth in itertools.cycle(depths):
        if start >= logits.shape[1]:
            return
        slab = logits[:, start : start + depth].clone()
        start += slab.shape[1]
        yield slab
        slab.fill_(-99)


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
        dtype = torch.float32
        device = torch.device("cpu")

        def __len__(self) -> int:
            return 200

        def __getitem__(self, key: object) -> torch.Tensor:
            c, planes = key  # type: ignore[misc]
            assert isinstance(c, int)
            return draw_logits(c, 4, (8, 8))[planes]

    labels = fast_labels([Once()], (4, 8, 8), (8, 16, 16))  # type: ignore[list-item]
    assert labels.max() > 100
