"""Organs: ids, names, colours, surface tolerances, left/right pairs, and other label numberings."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError

MAX_ORGANS = 255
"""Label maps are stored as 8-bit numbers."""

TUBES = frozenset({"aorta", "inferior vena cava", "esophagus"})
"""The tubes of FLARE: how far up and down one is drawn is the annotator's choice."""

SOLID = frozenset({"liver", "right kidney", "spleen", "pancreas", "left kidney"})
"""The solid organs of FLARE that are wide enough for their signal to be told from what is around.
"""


@dataclass(frozen=True)
class Organ:
    """One organ of a label map."""

    id: int
    """Label value; 0 is background."""
    name: str
    colour: tuple[int, int, int] = (200, 200, 200)
    """Red, green, blue, 0–255."""
    tolerance_mm: float = 2.0
    """Tolerance of the normalised surface Dice, in mm (FLARE24)."""
    pair: int | None = None
    """Id of the organ on the other side of the body, for left/right pairs."""
    tube: bool = False
    """Whether it runs on beyond what is drawn: scored on the slices of the truth alone. In JSON,
    where nothing says it, it holds for the names in ``TUBES``."""
    solid: bool = False
    """Whether it is of one tissue, without air, bowel content or fast blood: nothing of it is much
    darker than the rest. In JSON, where nothing says it, it holds for the names in ``SOLID``."""


@dataclass(frozen=True)
class OrganSet:
    """The organs that a project segments, with ids 1…n (background is 0)."""

    organs: tuple[Organ, ...] = field()

    def __post_init__(self) -> None:
        ids = [organ.id for organ in self.organs]
        if not ids or ids != list(range(1, len(ids) + 1)):
            raise UserError(
                "organ ids must be consecutive",
                seen=ids or "no organ",
                allowed="1, 2, 3, … in this order",
            )
        if len(ids) > MAX_ORGANS:
            raise UserError("too many organs", seen=len(ids), allowed=f"at most {MAX_ORGANS}")
        names = [organ.name for organ in self.organs]
        if len(set(names)) != len(names):
            raise UserError("organ names must differ from each other", seen=names)
        for organ in self.organs:
            if organ.pair is not None and (
                organ.pair not in self.ids - {organ.id}
                or self.organs[organ.pair - 1].pair != organ.id
            ):
                raise UserError(
                    f"the pair of {organ.name} must name it back",
                    seen=organ.pair,
                    allowed="two organs that name each other's id",
                )

    def __iter__(self) -> Iterator[Organ]:
        return iter(self.organs)

    def __len__(self) -> int:
        return len(self.organs)

    def __getitem__(self, organ_id: int) -> Organ:
        if not 1 <= organ_id <= len(self.organs):
            raise UserError("unknown organ id", seen=organ_id, allowed=f"1…{len(self.organs)}")
        return self.organs[organ_id - 1]

    @cached_property
    def ids(self) -> frozenset[int]:
        """All organ ids, background excluded."""
        return frozenset(organ.id for organ in self.organs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Organ names in the order of their ids."""
        return tuple(organ.name for organ in self.organs)

    def named(self, name: str) -> Organ:
        """The organ of a name; an unknown name is refused with the nearest one."""
        for organ in self.organs:
            if organ.name == name:
                return organ
        near = difflib.get_close_matches(name, self.names, n=1)
        raise UserError(
            "unknown organ",
            seen=name,
            allowed=", ".join(self.names),
            fix=f"did you mean '{near[0]}'?" if near else None,
        )

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON-able form, read back by :meth:`from_json`."""
        return [
            {
                "id": o.id,
                "name": o.name,
                "colour": list(o.colour),
                "tolerance_mm": o.tolerance_mm,
                "pair": o.pair,
                # only what the name does not say: lists of older runs keep their hash
                **({"tube": o.tube} if o.tube != (o.name in TUBES) else {}),
                **({"solid": o.solid} if o.solid != (o.name in SOLID) else {}),
            }
            for o in self.organs
        ]

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> OrganSet:
        """Build from dictionaries with at least ``id`` and ``name``."""
        organs = []
        for row in rows:
            extra = set(row) - {"id", "name", "colour", "tolerance_mm", "pair", "tube", "solid"}
            if extra or "id" not in row or "name" not in row:
                raise UserError(
                    "an organ needs an id and a name",
                    seen=dict(row),
                    allowed="id, name, colour, tolerance_mm, pair, tube, solid",
                )
            try:
                organs.append(_organ(row))
            except (TypeError, ValueError) as error:
                raise UserError(
                    "an organ has a value of the wrong kind",
                    seen=dict(row),
                    allowed="id and pair: integers, colour: three integers, "
                    "tolerance_mm: a number, tube and solid: true or false",
                ) from error
        return cls(tuple(organs))

    @classmethod
    def read(cls, path: Path) -> OrganSet:
        """Read a user's own list of organs: a JSON file holding a list of organs."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError("list of organs not found", path=path) from error
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError("not a JSON list of organs", path=path, seen=str(error)) from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(
                "not a list of organs",
                path=path,
                allowed='[{"id": 1, "name": "liver"}, …]',
            )
        return cls.from_json(rows)


def _organ(row: Mapping[str, Any]) -> Organ:
    red, green, blue = (int(v) for v in row.get("colour") or (200, 200, 200))
    pair, tolerance, name = row.get("pair"), row.get("tolerance_mm"), str(row["name"])
    tube, solid = _flag(row, "tube", name in TUBES), _flag(row, "solid", name in SOLID)
    return Organ(
        id=int(row["id"]),
        name=name,
        colour=(red, green, blue),
        tolerance_mm=2.0 if tolerance is None else float(tolerance),
        pair=None if pair is None else int(pair),
        tube=tube,
        solid=solid,
    )


def _flag(row: Mapping[str, Any], key: str, otherwise: bool) -> bool:
    value = row.get(key)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


FLARE = OrganSet(
    (
        Organ(1, "liver", (221, 130, 101), 5.0, solid=True),
        Organ(2, "right kidney", (185, 102, 83), 3.0, pair=13, solid=True),
        Organ(3, "spleen", (157, 108, 162), 3.0, solid=True),
        Organ(4, "pancreas", (249, 180, 111), 5.0, solid=True),
        Organ(5, "aorta", (224, 50, 55), 2.0, tube=True),
        Organ(6, "inferior vena cava", (0, 114, 189), 2.0, tube=True),
        Organ(7, "right adrenal gland", (244, 214, 49), 2.0, pair=8),
        Organ(8, "left adrenal gland", (255, 238, 140), 2.0, pair=7),
        Organ(9, "gallbladder", (80, 200, 120), 2.0),
        Organ(10, "esophagus", (211, 171, 143), 3.0, tube=True),
        Organ(11, "stomach", (216, 101, 179), 5.0),
        Organ(12, "duodenum", (0, 180, 180), 7.0),
        Organ(13, "left kidney", (120, 70, 200), 3.0, pair=2, solid=True),
    )
)
"""The 13 organs in FLARE order, with the NSD tolerances of FLARE24."""


@dataclass(frozen=True)
class LabelScheme:
    """Another data set's numbering: its label values and the organ that each one means.

    A value that means none of our organs (``None``) becomes background.
    """

    name: str
    values: Mapping[int, str | None]

    def organs_annotated(self, organs: OrganSet) -> frozenset[int]:
        """Ids of the organs that this numbering can express."""
        known = set(self.values.values())
        return frozenset(organ.id for organ in organs if organ.name in known)


def _totalsegmentator() -> dict[int, str | None]:
    values: dict[int, str | None] = dict.fromkeys(range(1, 118))
    values |= {
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        5: "liver",
        6: "stomach",
        7: "pancreas",
        8: "right adrenal gland",
        9: "left adrenal gland",
        15: "esophagus",
        19: "duodenum",
        52: "aorta",
        63: "inferior vena cava",
    }
    return values


def _chaos() -> dict[int, str | None]:
    # CHAOS MRI ground truth is an 8-bit picture; each organ owns a range of grey levels
    ranges = {
        "liver": (55, 70),
        "right kidney": (110, 135),
        "left kidney": (175, 200),
        "spleen": (240, 255),
    }
    return {v: name for name, (low, high) in ranges.items() for v in range(low, high + 1)}


SCHEMES: Mapping[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme(
            "amos",
            {
                1: "spleen",
                2: "right kidney",
                3: "left kidney",
                4: "gallbladder",
                5: "esophagus",
                6: "liver",
                7: "stomach",
                8: "aorta",
                9: "inferior vena cava",
                10: "pancreas",
                11: "right adrenal gland",
                12: "left adrenal gland",
                13: "duodenum",
                14: None,
                15: None,
            },
        ),
        LabelScheme(
            "btcv",
            {
                1: "spleen",
                2: "right kidney",
                3: "left kidney",
                4: "gallbladder",
                5: "esophagus",
                6: "liver",
                7: "stomach",
                8: "aorta",
                9: "inferior vena cava",
                10: None,
                11: "pancreas",
                12: "right adrenal gland",
                13: "left adrenal gland",
            },
        ),
        LabelScheme("chaos", _chaos()),
        LabelScheme("totalsegmentator", _totalsegmentator()),
    )
}
"""Numberings that convert to ours: AMOS, BTCV, CHAOS (MRI), TotalSegmentator (version 2)."""


_IMAGE_LIKE = 50
"""So many unexpected values are no label map."""


def like_an_image(unknown: Sequence[int]) -> str | None:
    """What so many unexpected values of a label map say, if anything."""
    return "this looks like an image, not a label map" if len(unknown) > _IMAGE_LIKE else None


def convert_labels(
    labels: NDArray[np.integer], scheme: str | LabelScheme, organs: OrganSet = FLARE
) -> NDArray[np.uint8]:
    """Renumber a label array of another data set, any shape, to the ids of ``organs``.

    ``scheme`` is one of ``SCHEMES``, by name, or a numbering of your own. Raises ``UserError`` on
    an unknown scheme, or on values that the scheme does not define.
    """
    if isinstance(scheme, str):
        if scheme not in SCHEMES:
            raise UserError("unknown label numbering", seen=scheme, allowed=", ".join(SCHEMES))
        scheme = SCHEMES[scheme]
    known = scheme.values
    present = [int(v) for v in np.unique(labels)]
    unknown = [v for v in present if v != 0 and v not in known]
    if unknown:
        more = f", … ({len(unknown)} values)" if len(unknown) > 20 else ""
        raise UserError(
            f"label values that {scheme.name} does not define",
            seen=", ".join(str(v) for v in unknown[:20]) + more,
            allowed=f"0 and {len(known)} values from {min(known)} to {max(known)}",
            fix=like_an_image(unknown),
        )
    by_name = {organ.name: organ.id for organ in organs}
    out = np.zeros(labels.shape, np.uint8)
    for value in present:
        target = by_name.get(known.get(value) or "")
        if target is not None:
            out[labels == value] = target
    return out
