"""How far to trust labels, without any truth: a verdict on each organ of a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelferry.io.sides import ONE_PIECE, SWAPPED, turned_by_wholes
from labelferry.organs import Organ, OrganSet
from labelferry.prior.measure import OrganMeasure, measure_organs
from labelferry.prior.model import Prior
from labelferry.prior.plausibility import CasePlausibility, OrganPlausibility, judge_measures
from labelferry.prior.reflection import UNTURNED, Flips, likely_flips
from labelferry.volume import Segmentation, canonical

Verdict = Literal["ok", "look", "doubt"]
"""``look``: have a look at it. ``doubt``: it is probably wrong."""

ODD_Z, ABSURD_Z = 3.5, 5.0
"""Plausibility z above which an organ is odd (look), or like none in the source (doubt)."""
UNSURE, LOST = 0.15, 0.30
"""Entropy above which the network is unsure of an organ (look), or at a loss (doubt)."""
SHREDS = 0.5
"""Share of the largest piece under which an organ lies in shreds (doubt); under
``ONE_PIECE`` (0.8) it lies in pieces (look)."""
_FIXED = "labelled as if {} (--fix-orientation)"
_NAMED = 3
"""So many doubtful organs are named; the table names all."""


@dataclass(frozen=True)
class OrganQuality:
    """One organ of one label map."""

    organ: str
    volume_ml: float
    """0 where it was not found."""
    z: float | None
    """Against the source: |size z| + |position z|, or the penalty for a missing organ; None without
    a prior of it."""
    components: int
    """Pieces, where corners touch."""
    largest_share: float
    """Share of the largest piece."""
    touches_border: bool
    """Whether it reaches the edge of the picture, so that some of it may be missing."""
    entropy: float | None
    """Of the network inside it, in [0, 1]; see :class:`labelferry.predict.entropy.EntropyMeter`.
    None where it is not known, as in labels that were there already."""
    verdict: Verdict
    why: str
    """In words; empty where all is well."""


@dataclass(frozen=True)
class CaseQuality:
    """One label map."""

    case: str
    organs: tuple[OrganQuality, ...]
    z: float | None
    """Mean of the organs' z; None where nothing could be judged."""
    turned: tuple[str, ...] = ()
    """What the organs say against the header's orientation, in words."""
    flips: Flips = UNTURNED
    """The axes that they say are reversed."""
    fixed: Flips = UNTURNED
    """The axes along which the picture was reversed to label it."""

    @property
    def found(self) -> bool:
        """Whether there is any organ."""
        return any(row.components for row in self.organs)

    def warning(self) -> str | None:
        """What is wrong with the picture or the whole label map, in one line; usually nothing."""
        if self.turned:
            return f"{'; '.join(self.turned)}; by its labels"
        if not self.found:
            return "no organ was found at all"
        return _FIXED.format(words_of(self.fixed)) if any(self.fixed) else None

    def doubts(self) -> str | None:
        """The organs that are probably wrong, in one line; None where there is none, or where
        :meth:`warning` says all of it."""
        doubtful = [row for row in self.organs if row.verdict == "doubt"]
        if not doubtful or self.turned or not self.found:
            return None
        named = ", ".join(f"{row.organ} ({row.why})" for row in doubtful[:_NAMED])
        if len(doubtful) > _NAMED:
            return f"doubtful: {len(doubtful)} of {len(self.organs)} organs, {named} and others"
        return f"doubtful: {named}"


def assess(
    case: str,
    labels: Segmentation,
    organs: OrganSet,
    prior: Prior | None = None,
    entropy: Mapping[int, float] | None = None,
    *,
    fixed: Flips = UNTURNED,
) -> CaseQuality:
    """Judge the labels of a case; ``entropy`` is the network's, per organ id.

    ``fixed``: the axes along which the picture was reversed to label it (``--fix-orientation``);
    the labels are given as the network saw it.
    """
    whole = canonical(labels)
    measures = measure_organs(whole, organs.ids)
    judged = None if prior is None else judge_measures(measures, prior)
    said, flips = _orientation(measures, organs, prior)
    edge = _on_the_edge(whole.array)
    rows = []
    for organ in organs:
        measure = measures.get(organ.id)
        plausible = None if judged is None else judged.organs.get(organ.id)
        sure = None if entropy is None else entropy.get(organ.id)
        touches = organ.id in edge
        is_cut = touches and not _usually_cut(organ, prior)
        verdict, why = _verdict(measure, plausible, sure, is_cut)
        if not measures or said:
            verdict, why = "doubt", [*(said or ["no organ was found at all"]), *why]
        elif any(fixed):
            verdict = "look" if verdict == "ok" else verdict
            why = [_FIXED.format(words_of(fixed)), *why]
        rows.append(
            OrganQuality(
                organ=organ.name,
                volume_ml=0.0 if measure is None else measure.volume_mm3 / 1000,
                z=None if plausible is None else plausible.z,
                components=0 if measure is None else measure.components,
                largest_share=0.0 if measure is None else measure.largest_share,
                touches_border=touches,
                entropy=sure,
                verdict=verdict,
                why="; ".join(why),
            )
        )
    return CaseQuality(case, tuple(rows), _mean_z(judged), tuple(said), flips, fixed)


def words_of(flips: Flips) -> str:
    """The reversed axes in words: ``left and right are swapped``."""
    return ", ".join(words for words, flipped in zip(SWAPPED, flips, strict=True) if flipped)


def _orientation(
    measures: Mapping[int, OrganMeasure], organs: OrganSet, prior: Prior | None
) -> tuple[list[str], Flips]:
    """What the organs say against the header, by the prior or by who lies where, and the axes."""
    said = _turned(measures, organs)
    flips = UNTURNED if prior is None else likely_flips(measures, prior)
    if any(flips):
        return said or [f"by the places of its organs, {words_of(flips)}"], flips
    right, front, head = (any(words in text for text in said) for words in SWAPPED)
    return said, (right, front, head)


def _turned(measures: Mapping[int, OrganMeasure], organs: OrganSet) -> list[str]:
    """As :func:`labelferry.io.sides.turned_in_prediction`, of what is measured already."""
    named = {organs[k].name: m for k, m in measures.items()}
    places = {name: np.array(m.centroid_mm) for name, m in named.items()}
    return turned_by_wholes(places, lambda name: named[name].largest_share >= ONE_PIECE)


def _verdict(
    measure: OrganMeasure | None,
    plausible: OrganPlausibility | None,
    entropy: float | None,
    is_cut: bool,
) -> tuple[Verdict, list[str]]:
    """The worst that is to be said, and all of it."""
    said: list[tuple[Verdict, str]] = []
    if measure is None:
        if plausible is not None:
            said.append(("look", "not found, though most source images have it"))
    else:
        if plausible is not None and plausible.wrong_side:
            said.append(("doubt", "on the other side of its pair"))
        if plausible is not None and plausible.z > ODD_Z:
            said.append(("doubt" if plausible.z > ABSURD_Z else "look", _oddity(plausible)))
        if measure.largest_share < ONE_PIECE:
            shredded = measure.largest_share < SHREDS
            said.append(("doubt" if shredded else "look", f"in {measure.components} pieces"))
        if is_cut:
            said.append(("look", "cut by the edge of the picture"))
    if entropy is not None and entropy > UNSURE:
        lost = entropy > LOST
        said.append(("doubt", "the network is at a loss") if lost else ("look", "unsure network"))
    worst: Verdict = "ok"
    for level, _ in said:
        worst = level if worst == "ok" or level == "doubt" else worst
    return worst, [text for _, text in said]


def _oddity(plausible: OrganPlausibility) -> str:
    if plausible.position_z > abs(plausible.size_z):
        return "at an odd place"
    return "too small" if plausible.size_z < 0 else "too large"


def _usually_cut(organ: Organ, prior: Prior | None) -> bool:
    """Whether the edge of a picture says nothing of this organ: a tube runs on beyond it."""
    row = None if prior is None else prior.get(organ.id)
    return organ.tube or (row is not None and row.size == "section")


def _on_the_edge(array: NDArray[np.uint8]) -> frozenset[int]:
    """The ids in the outermost voxels of any axis."""
    faces = [np.unique(array.take(index, axis)) for axis in range(3) for index in (0, -1)]
    return frozenset(int(value) for value in np.concatenate(faces))


def _mean_z(judged: CasePlausibility | None) -> float | None:
    return judged.z if judged is not None and np.isfinite(judged.z) else None
