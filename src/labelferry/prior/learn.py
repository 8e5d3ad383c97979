"""Learn the prior from source label maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.organs import Organ, OrganSet
from labelferry.prior.measure import OrganMeasure, measure_organs
from labelferry.prior.model import OrganPrior, Prior, SizeKind
from labelferry.volume import Segmentation

# With n cases the variance is (sum of squared deviations + default²) / n: one case gives the
# default, many cases give their own spread. Below the floors no spread is believed.
_LOG_SIZE_SD, _LOG_SIZE_FLOOR = 0.4, 0.1
_POSITION_SD_MM, _POSITION_FLOOR_MM = 15.0, 5.0


@dataclass(frozen=True)
class _Seen:
    """One organ in the source: a measure per case that shows it well enough to count."""

    organ: Organ
    measures: dict[int, OrganMeasure]
    size: SizeKind
    present_rate: float


def learn_prior(labels: Iterable[tuple[Segmentation, frozenset[int]]], organs: OrganSet) -> Prior:
    """Statistics of the organs over source label maps, each with the organs that it annotates.

    The maps lie on canonical grids (x, y, z) of any spacing. An organ that is not annotated, empty
    or cut at the upper or lower end of its image does not count there. An organ that is cut in
    most images is described by its cross-section and its x and y instead. One case is enough:
    its spread is then assumed (40 % in size, 15 mm in position). Raises ``UserError`` when no map
    shows any organ.
    """
    cases: list[dict[int, OrganMeasure]] = []
    annotated: list[frozenset[int]] = []
    for segmentation, known in labels:
        cases.append(measure_organs(segmentation, known & organs.ids))
        annotated.append(known)
    seen = [row for organ in organs if (row := _see(organ, cases, annotated)) is not None]
    if not seen:
        raise UserError(
            "no source label map shows any organ: there is nothing to learn a prior from",
            seen=f"{len(cases)} label maps",
            allowed="at least one label map with one organ",
        )
    positions, spreads = _positions(seen, len(cases))
    rows = [_organ_prior(s, p, sd) for s, p, sd in zip(seen, positions, spreads, strict=True)]
    return Prior(_with_sides(rows, organs), len(cases))


def _see(
    organ: Organ, cases: Sequence[dict[int, OrganMeasure]], annotated: Sequence[frozenset[int]]
) -> _Seen | None:
    found = {c: case[organ.id] for c, case in enumerate(cases) if organ.id in case}
    if not found:
        return None
    rate = len(found) / sum(organ.id in known for known in annotated)
    whole = {c: m for c, m in found.items() if not m.cut}
    if 2 * len(whole) >= len(found):
        return _Seen(organ, whole, "volume", rate)
    return _Seen(organ, found, "section", rate)


def _organ_prior(
    seen: _Seen, position: NDArray[np.float64], spread: NDArray[np.float64]
) -> OrganPrior:
    measures = list(seen.measures.values())
    sizes = [m.volume_mm3 if seen.size == "volume" else m.section_mm2 for m in measures]
    logs = np.log(sizes)
    x, y, z = (float(v) for v in position)
    sx, sy, sz = (float(v) for v in spread)
    return OrganPrior(
        id=seen.organ.id,
        name=seen.organ.name,
        cases=len(measures),
        present_rate=seen.present_rate,
        size=seen.size,
        log_size_mean=float(logs.mean()),
        log_size_sd=_spread(logs - logs.mean(), _LOG_SIZE_SD, _LOG_SIZE_FLOOR),
        position_mm=(x, y, z),
        position_sd_mm=(sx, sy, sz),
        components=float(np.mean([m.components for m in measures])),
        largest_share=float(np.mean([m.largest_share for m in measures])),
        side=0,
        midline_mm=0.0,
    )


def _spread(deviations: NDArray[np.float64], default: float, floor: float) -> float:
    variance = (float(np.square(deviations).sum()) + default**2) / max(1, len(deviations))
    return max(floor, float(np.sqrt(variance)))


def _positions(
    seen: Sequence[_Seen], cases: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean position and spread of each organ, (organs, 3) mm, after moving the cases together.

    Least squares over one shift per case and one position per organ, by turns: a case that lacks
    an organ is still put in the right place.
    """
    centroids = np.full((cases, len(seen), 3), np.nan)
    for column, row in enumerate(seen):
        for case, m in row.measures.items():
            centroids[case, column] = m.centroid_mm
        if row.size == "section":
            centroids[:, column, 2] = np.nan
    shift = _mean(centroids, 1)[:, None]
    for _ in range(100):
        position = _mean(centroids - shift, 0)[None]
        moved = _mean(centroids - position, 1)[:, None]
        change = float(np.abs(moved - shift).max())
        shift = moved
        if change < 1e-6:
            break
    residual = centroids - shift
    position = _mean(residual, 0)
    spread = np.empty_like(position)
    for column, axis in np.ndindex(position.shape):
        values = residual[:, column, axis]
        deviations = values[~np.isnan(values)] - position[column, axis]
        spread[column, axis] = _spread(deviations, _POSITION_SD_MM, _POSITION_FLOOR_MM)
    comparable = ~np.isnan(centroids).all(axis=0)
    origin = np.where(comparable, position, 0).sum(axis=0) / np.maximum(1, comparable.sum(axis=0))
    return np.where(comparable, position - origin, 0.0), spread


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean over what is known; 0 where nothing is."""
    known = ~np.isnan(values)
    total: NDArray[np.float64] = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(total / np.maximum(1, known.sum(axis=axis)))


def _with_sides(rows: Sequence[OrganPrior], organs: OrganSet) -> tuple[OrganPrior, ...]:
    x_of = {row.id: row.position_mm[0] for row in rows}
    out = []
    for row in rows:
        pair = organs[row.id].pair
        if pair is not None and pair in x_of and x_of[pair] != x_of[row.id]:
            side = 1 if x_of[row.id] > x_of[pair] else -1
            row = replace(row, side=side, midline_mm=(x_of[row.id] + x_of[pair]) / 2)
        out.append(row)
    return tuple(out)
