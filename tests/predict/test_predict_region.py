"""Coarse to fine: the region's arithmetic, and that nothing in it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from labelferry.anatomy.prepare import prepare
from labelferry.errors import UserError
from labelferry.pipeline.config import load_config
from labelferry.predict.config import PredictConfig
from labelferry.predict.predictor import Model
from labelferry.predict.region import grown, region_of, whole, within_region
from labelferry.predict.window import Window
from labelferry.segment.bundle import Bundle
from labelferry.volume import Volume

relaxed = settings(deadline=None)
triples = st.tuples(*[st.integers(1, 9)] * 3)
margins = st.tuples(*[st.integers(0, 4)] * 3)


def holds(outer: Window, inner: Window) -> bool:
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(outer, inner, strict=True))


@st.composite
def regions(draw: st.DrawFn) -> tuple[Window, tuple[int, ...]]:
    shape = draw(triples)
    parts = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        parts.append(slice(start, draw(st.integers(start + 1, size))))
    return (parts[0], parts[1], parts[2]), shape


def test_a_region_by_hand() -> None:
    found = np.zeros((2, 4, 5), bool)
    found[1, 1:3, 2] = True
    # twice as many voxels in y, 1.4 times in x: 2 to 6, and 2.8 to 4.2, widened to whole voxels
    assert region_of(found, (2, 8, 7), (0, 1, 0)) == (slice(1, 2), slice(1, 7), slice(2, 5))
    assert region_of(found & False, (2, 8, 7), (0, 1, 0)) == whole((2, 8, 7))
    region = (slice(3, 4), slice(0, 2), slice(5, 9))
    assert grown(region, {(0, False), (2, True)}, (2, 1, 0), (9, 3, 9)) == (
        slice(1, 4), slice(0, 2), slice(5, 9),
    )  # fmt: skip


@relaxed
@given(triples, triples, margins, st.integers(0, 2**32 - 1))
def test_a_region_holds_what_was_found(
    coarse: tuple[int, ...], shape: tuple[int, ...], margin: tuple[int, ...], seed: int
) -> None:
    found = np.random.default_rng(seed).random(coarse) > 0.7
    region = region_of(found, shape, margin)
    assert holds(whole(shape), region) and holds(region, region_of(found, shape, (0, 0, 0)))
    for axis, where in enumerate(np.nonzero(found)):
        ratio, part = shape[axis] / coarse[axis], region[axis]
        assert part.start <= (where * ratio).min(initial=part.start) + 1e-6
        assert part.stop >= ((where + 1) * ratio).max(initial=part.stop) - 1e-6


@relaxed
@given(regions(), st.sets(st.tuples(st.integers(0, 2), st.booleans())), margins)
def test_a_region_grows_only_where_it_is_touched(
    given_: tuple[Window, tuple[int, ...]], faces: set[tuple[int, bool]], margin: tuple[int, ...]
) -> None:
    region, shape = given_
    larger = grown(region, faces, margin, shape)
    assert holds(larger, region) and holds(whole(shape), larger)
    for axis, (new, old) in enumerate(zip(larger, region, strict=True)):
        assert (new.start < old.start) == ((axis, False) in faces and old.start > 0)
        assert (new.stop > old.stop) == ((axis, True) in faces and old.stop < shape[axis])


def walk(shape: tuple[int, ...], steps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """An organ in one piece: wherever a random walk from face to face of voxels has been."""
    organ = np.zeros(shape, bool)
    place = np.array([rng.integers(n) for n in shape])
    for _ in range(steps):
        organ[tuple(place)] = True
        step = np.zeros(3, int)
        step[rng.integers(3)] = rng.choice([-1, 1])
        place = np.clip(place + step, 0, np.array(shape) - 1)
    return organ


@relaxed
@given(triples, st.integers(1, 60), margins, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_an_organ_at_the_border_is_never_cut(
    shape: tuple[int, ...], steps: int, margin: tuple[int, ...], depth: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    organ = walk(shape, steps, rng)
    seen = rng.choice(np.argwhere(organ))
    z, y, x = (slice(int(n), int(n) + 1) for n in seen)
    scores = torch.from_numpy(np.stack([~organ, organ]).astype(np.float32))

    def scan(part: Window) -> Iterator[Tensor]:
        known = torch.zeros(shape, dtype=torch.bool)
        known[part] = True
        nothing = torch.tensor([1.0, 0.0])[:, None, None, None]
        yield from torch.where(known, scores, nothing).split(depth, 1)

    def consume(slabs: Iterator[Tensor]) -> Tensor:
        return torch.cat([slab.argmax(0) for slab in slabs])

    found = within_region((z, y, x), shape, margin, scan, consume)
    np.testing.assert_array_equal(found.numpy() > 0, organ)


class Bright(nn.Module):
    """An organ where a voxel is bright; counts the voxels that it was shown."""

    shown = 0

    def forward(self, x: Tensor) -> Tensor:
        self.shown += x[:, :1].numel()
        level = x[:, :1] - 1.5
        return torch.cat([-level, level, level - 100], 1)


def looking(make_bundle: Callable[..., Bundle], **how: Any) -> tuple[Model, Bright]:
    network = Bright()
    config = PredictConfig(amp="fp32", engine="torch", skip_empty=False, **how)
    return Model(make_bundle(patch=(4, 8, 8)), network, torch.device("cpu"), config), network


@pytest.mark.parametrize("margin", [0.0, 12.0])
@pytest.mark.parametrize("zoom", [1.0, 1.4, 2.0])
def test_the_labels_are_those_of_the_whole_body(
    zoom: float, margin: float, make_bundle: Callable[..., Bundle], scan: Volume
) -> None:
    model, network = looking(make_bundle)
    expected, cost = model.predict(scan), network.shown
    model, network = looking(make_bundle, coarse=zoom, coarse_margin_mm=margin)
    found = model.predict(scan)
    assert expected.array.any()
    np.testing.assert_array_equal(found.array, expected.array)
    if zoom > 1 and margin:
        assert network.shown < cost


def test_without_an_organ_the_whole_body_is_looked_at(
    make_bundle: Callable[..., Bundle], scan: Volume
) -> None:
    model, network = looking(make_bundle, coarse=2.0)
    dark = scan.with_array(np.minimum(scan.array, 150))
    assert not model.predict(dark).array.any()
    alone, whole_body = looking(make_bundle)
    alone.predict(dark)
    assert network.shown > whole_body.shown


def test_working_labels_and_scores_agree(make_bundle: Callable[..., Bundle], scan: Volume) -> None:
    model, _ = looking(make_bundle, coarse=1.4)
    prepared = prepare(scan, "MR", model.bundle.anatomy)
    labels = model.working_labels(prepared).array
    scores = model.logits(prepared)
    np.testing.assert_array_equal(scores.argmax(0).numpy().transpose(2, 1, 0), labels)


def test_smaller_voxels_are_no_coarse_look() -> None:
    with pytest.raises(UserError, match="at least 1"):
        load_config("default", "demo", ["predict.coarse=0.5"])
