from __future__ import annotations

import pytest

from labelferry.errors import UserError
from labelferry.io.numbering import find_numbering, is_own, named_like, numbering_of
from labelferry.organs import FLARE, OrganSet


@pytest.mark.parametrize(
    ("word", "organ"),
    [
        ("Liver", "liver"),
        ("RIGHT_KIDNEY", "right kidney"),
        ("kidney_right", "right kidney"),
        ("Kidney, left".replace(",", ""), "left kidney"),
        ("L Kidney", "left kidney"),
        ("IVC", "inferior vena cava"),
        ("postcava", "inferior vena cava"),
        ("inferior-vena-cava", "inferior vena cava"),
        ("adrenal_gland_left", "left adrenal gland"),
        ("right adrenal", "right adrenal gland"),
        ("suprarenal_gland_right", "right adrenal gland"),
        ("gall_bladder", "gallbladder"),
        ("oesophagus", "esophagus"),
        ("background", None),
        ("tumor", None),
        ("kidney", None),
        ("left", None),
        ("", None),
    ],
)
def test_other_words_for_organs(word, organ):
    assert named_like(word, FLARE) == organ


def test_the_numbering_of_the_organs_itself_is_known():
    assert is_own(numbering_of({o.name: o.id for o in FLARE}, FLARE, "x"), FLARE)
    assert is_own(
        numbering_of({"0": "background", **{str(o.id): o.name for o in FLARE}}, FLARE, "x"), FLARE
    )
    assert not is_own(numbering_of({"liver": 1}, FLARE, "x"), FLARE)


def test_names_follow_the_users_own_organs():
    organs = OrganSet.from_json([{"id": 1, "name": "prostate"}, {"id": 2, "name": "bladder"}])
    scheme = numbering_of({"Prostate": 5, "bladder": 9, "liver": 3}, organs, "x")
    assert scheme.values == {5: "prostate", 9: "bladder", 3: None}
    assert scheme.organs_annotated(organs) == {1, 2}


def test_known_numberings_go_by_name_in_any_case():
    assert find_numbering("AMOS", FLARE).values[6] == "liver"
    with pytest.raises(UserError, match="amos, btcv, chaos, totalsegmentator, or a JSON file"):
        find_numbering("msd", FLARE)


def test_a_value_with_two_names_is_refused():
    with pytest.raises(UserError, match="two names"):
        numbering_of({"liver": 1, "spleen": 1}, FLARE, "x")
