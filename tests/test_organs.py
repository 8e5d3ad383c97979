from __future__ import annotations

import json

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.organs import FLARE, SCHEMES, SOLID, Organ, OrganSet, convert_labels


def test_the_flare_order_and_its_tolerances():
    by_name = {organ.name: (organ.id, organ.tolerance_mm) for organ in FLARE}
    assert by_name == {
        "liver": (1, 5),
        "right kidney": (2, 3),
        "spleen": (3, 3),
        "pancreas": (4, 5),
        "aorta": (5, 2),
        "inferior vena cava": (6, 2),
        "right adrenal gland": (7, 2),
        "left adrenal gland": (8, 2),
        "gallbladder": (9, 2),
        "esophagus": (10, 3),
        "stomach": (11, 5),
        "duodenum": (12, 7),
        "left kidney": (13, 3),
    }
    assert FLARE.ids == frozenset(range(1, 14))


def test_sides_name_each_other():
    for organ in FLARE:
        if organ.pair:
            other = FLARE[organ.pair]
            assert other.pair == organ.id
            assert {organ.name.split()[0], other.name.split()[0]} == {"left", "right"}
    assert sum(organ.pair is not None for organ in FLARE) == 4


def test_solid_organs_go_by_their_names_unless_a_list_says_otherwise():
    solid = {organ.name for organ in FLARE if organ.solid}
    assert solid == {"liver", "spleen", "pancreas", "right kidney", "left kidney"} == SOLID
    rows = [
        {"id": 1, "name": "liver"},
        {"id": 2, "name": "spleen", "solid": False},
        {"id": 3, "name": "psoas", "solid": True},
    ]
    own = OrganSet.from_json(rows)
    assert [organ.solid for organ in own] == [True, False, True]
    assert OrganSet.from_json(own.to_json()) == own
    assert "solid" not in own.to_json()[0]
    with pytest.raises(UserError, match="wrong kind"):
        OrganSet.from_json([{"id": 1, "name": "liver", "solid": "yes"}])


def test_an_unknown_organ_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'esophagus'"):
        FLARE.named("oesophagus")
    for wrong in (0, 14, -1):
        with pytest.raises(UserError, match="unknown organ id"):
            FLARE[wrong]


def test_json_comes_back(tmp_path):
    assert OrganSet.from_json(FLARE.to_json()) == FLARE
    (tmp_path / "organs.json").write_text(json.dumps(FLARE.to_json()))
    assert OrganSet.read(tmp_path / "organs.json") == FLARE


def test_a_short_list_gets_the_defaults():
    (liver,) = OrganSet.from_json([{"id": 1, "name": "liver"}])
    assert liver == Organ(1, "liver", solid=True)
    (strict,) = OrganSet.from_json([{"id": 1, "name": "liver", "tolerance_mm": 0}])
    assert strict.tolerance_mm == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '[{"id": 1}]',
        '[{"id": "one", "name": "liver"}]',
        '[{"id": 1, "name": "liver", "colour": [1, 2]}]',
        '[{"id": 1, "name": "liver", "colour": 7}]',
        '[{"id": 1, "name": "liver", "tolerance_mm": "wide"}]',
        '[{"id": 1, "name": "liver", "color": [1, 2, 3]}]',
        '[{"id": 1, "name": "liver", "pair": 1}]',
        '[{"id": 1, "name": "liver", "pair": 2}]',
        '[{"id": 2, "name": "liver"}]',
        '[{"id": 1, "name": "liver"}, {"id": 2, "name": "liver"}]',
        '[{"id": 1, "name": "a", "pair": 2}, {"id": 2, "name": "b"}]',
        json.dumps([{"id": i, "name": str(i)} for i in range(1, 257)]),
    ],
)
def test_bad_lists_are_refused_in_words(tmp_path, text):
    (tmp_path / "organs.json").write_text(text)
    with pytest.raises(UserError):
        OrganSet.read(tmp_path / "organs.json")


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not found.*organs\.json"):
        OrganSet.read(tmp_path / "organs.json")
    with pytest.raises(UserError):
        OrganSet.read(tmp_path)


# by hand, from the data sets' own descriptions
OTHERS = {
    "amos": {6: 1, 2: 2, 1: 3, 10: 4, 8: 5, 9: 6, 11: 7, 12: 8, 4: 9, 5: 10, 7: 11, 13: 12, 3: 13}
    | {14: 0, 15: 0},
    "btcv": {6: 1, 2: 2, 1: 3, 11: 4, 8: 5, 9: 6, 12: 7, 13: 8, 4: 9, 5: 10, 7: 11, 3: 13, 10: 0},
    "chaos": {63: 1, 55: 1, 70: 1, 126: 2, 189: 13, 252: 3, 255: 3},
    "totalsegmentator": {5: 1, 2: 2, 1: 3, 7: 4, 52: 5, 63: 6, 8: 7, 9: 8, 4: 9, 15: 10, 6: 11}
    | {19: 12, 3: 13, 20: 0, 117: 0},
}


@pytest.mark.parametrize("scheme", OTHERS)
def test_other_numberings_convert(scheme):
    values = np.array([0, *OTHERS[scheme]], np.int16).reshape(1, 1, -1)
    expected = np.array([0, *OTHERS[scheme].values()], np.uint8).reshape(1, 1, -1)
    out = convert_labels(values, scheme)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, expected)


def test_every_numbering_is_tested_and_says_what_it_annotates():
    assert set(SCHEMES) == set(OTHERS)
    for name, scheme in SCHEMES.items():
        assert scheme.organs_annotated(FLARE) == frozenset(OTHERS[name].values()) - {0}


def test_undefined_values_are_refused():
    with pytest.raises(UserError, match=r"amos does not define; seen: 16, 40;"):
        convert_labels(np.array([0, 1, 16, 40]), "amos")
    with pytest.raises(UserError, match="allowed: amos, btcv"):
        convert_labels(np.array([0]), "AMOS")


def test_conversion_follows_the_users_own_organs():
    organs = OrganSet.from_json([{"id": 1, "name": "spleen"}])
    np.testing.assert_array_equal(convert_labels(np.array([0, 1, 6]), "amos", organs), [0, 1, 0])
