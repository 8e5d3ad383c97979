"""How other data sets number the organs: by name, from a JSON file, or nnU-Net's dataset.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.files import read_json
from labelferry.organs import SCHEMES, LabelScheme, OrganSet

__all__ = ["LabelScheme", "find_numbering", "named_like", "numbering_of", "read_numbering"]

_ALIKE = {
    "ivc": "inferior vena cava",
    "postcava": "inferior vena cava",
    "post cava": "inferior vena cava",
    "vena cava inferior": "inferior vena cava",
    "oesophagus": "esophagus",
    "gall bladder": "gallbladder",
    "rag": "right adrenal gland",
    "lag": "left adrenal gland",
    "right adrenal": "right adrenal gland",
    "left adrenal": "left adrenal gland",
    "right suprarenal gland": "right adrenal gland",
    "left suprarenal gland": "left adrenal gland",
    "arota": "aorta",
    "abdominal aorta": "aorta",
}
"""Other words for the organs of FLARE, some of them the misprints of well-known data sets."""
_SIDES = {"l": "left", "r": "right", "left": "left", "right": "right"}
_NOTHING = ("background", "ignore", "unlabeled", "unlabelled", "clear label")


def find_numbering(text: str, organs: OrganSet) -> LabelScheme:
    """What ``--labels`` was given: a known numbering (amos, btcv, …), or a JSON file."""
    if text.lower() in SCHEMES:
        return SCHEMES[text.lower()]
    if Path(text).suffix.lower() == ".json" or Path(text).is_file():
        return read_numbering(Path(text), organs)
    raise UserError(
        "unknown label numbering",
        seen=text,
        allowed=", ".join(SCHEMES) + ", or a JSON file of names and label values",
    )


def read_numbering(path: Path, organs: OrganSet) -> LabelScheme:
    """A numbering from a JSON file: ``{"liver": 6, …}``, ``{"6": "liver", …}``, nnU-Net's
    dataset.json, or a list of ``{"id": 6, "name": "liver"}``.

    Raises ``UserError`` for anything else, and where no name is that of an organ.
    """
    value = read_json(path)
    try:
        if isinstance(value, dict):
            value = value.get("labels", value)
        if isinstance(value, list):
            value = {row["name"]: row["id"] for row in value}
        return numbering_of(value, organs, path.name)
    except UserError as error:
        raise error.at(path) from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(
            "not a numbering of labels",
            path=path,
            allowed='{"liver": 1, "spleen": 3, …}: names and label values',
        ) from error


def numbering_of(table: Mapping[str, Any], organs: OrganSet, name: str) -> LabelScheme:
    """A numbering from names and values, in either direction.

    Names are compared without case, blanks and underscores, and by other usual words (postcava,
    kidney_left); a name that is none of ``organs`` means background, as ``None`` does. Raises
    ``UserError`` where two values mean one organ, where no name is an organ's, and for nnU-Net's
    regions (a list of values).
    """
    values: dict[int, str | None] = {}
    for key, item in table.items():
        if isinstance(item, list | tuple):
            raise UserError(
                "labels made of regions (several values of one name) are not read",
                seen=f"{key}: {item}",
                fix="give one value for each organ",
            )
        word, number = (item, int(key)) if str(key).lstrip("-").isdigit() else (key, int(item))
        if number in values:
            raise UserError("a label value has two names", seen=number)
        values[number] = named_like(word, organs) if isinstance(word, str) else None
    values.pop(0, None)
    meant = [organ for organ in values.values() if organ is not None]
    twice = sorted({organ for organ in meant if meant.count(organ) > 1})
    if twice:
        raise UserError("two label values mean the same organ", seen=", ".join(twice))
    if not meant:
        raise UserError(
            "no name of the numbering is that of an organ",
            seen=", ".join(str(key) for key in list(table)[:10]) or "nothing",
            allowed=", ".join(organs.names),
        )
    return LabelScheme(name, values)


def named_like(word: str, organs: OrganSet) -> str | None:
    """The organ that another data set's word means, else None."""
    plain = {_plain(organ.name): organ.name for organ in organs}
    said = _plain(word)
    if said in _NOTHING:
        return None
    found = plain.get(said) or plain.get(_plain(_ALIKE.get(said, "")))
    if found is None and (sides := _sides(said)):
        found = plain.get(sides) or plain.get(_plain(_ALIKE.get(sides, "")))
    return found


def is_own(scheme: LabelScheme, organs: OrganSet) -> bool:
    """Whether a numbering is that of ``organs`` itself, all of them."""
    return dict(scheme.values) == {organ.id: organ.name for organ in organs}


def _plain(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").replace("-", " ").replace(".", " ").split())


def _sides(said: str) -> str:
    """``kidney left`` and ``l kidney`` as ``left kidney``; empty where no side is named."""
    words = said.split()
    for place in (0, -1):
        if len(words) > 1 and words[place] in _SIDES:
            rest = words[1:] if place == 0 else words[:-1]
            return " ".join([_SIDES[words[place]], *rest])
    return ""
