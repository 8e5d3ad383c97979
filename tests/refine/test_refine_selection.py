from __future__ import annotations

import json
import math

import pytest

from labelferry.errors import UserError
from labelferry.prior.plausibility import CasePlausibility, OrganPlausibility
from labelferry.refine.config import RefineConfig
from labelferry.refine.instability import Instability
from labelferry.refine.selection import select


def _config(**values) -> RefineConfig:
    return RefineConfig(**{"prior_filter": False, "fraction": 0.25, **values})


def _cases(*values: float) -> dict[str, Instability]:
    return {f"c{i}": Instability(u, {1: u, 2: 1 - u}) for i, u in enumerate(values)}


def _judged(z: float, **organs: float) -> CasePlausibility:
    rows = {
        int(k[1:]): OrganPlausibility(v, 0.0, v, True, 1, 1.0, False, False)
        for k, v in organs.items()
    }
    return CasePlausibility(z, rows, 0.0, frozenset(), frozenset())


def test_fraction_per_case():
    cases = _cases(0.1, 0.4, 0.2, 0.3)
    result = select(cases, cases, None, (1, 2), _config(scope="case"))
    assert result.kept == ("c0", "c2", "c3")
    assert "0.400" in result.decisions[1].reasons[None]
    assert result.decisions[0].organs == {1, 2}


def test_fraction_per_organ():
    cases = _cases(0.1, 0.4, 0.2, 0.3)
    result = select(cases, cases, None, (1, 2), _config(scope="organ"))
    assert [sorted(d.organs) for d in result.decisions] == [[1], [2], [1, 2], [1, 2]]
    assert result.kept == ("c0", "c1", "c2", "c3")


def test_what_the_rounds_agree_on_is_kept_however_stable_the_others_are():
    """Half would go: c1 and c3 of organ 1, of which c3 is stable enough; 1 - u of organ 2."""
    cases = _cases(0.1, 0.4, 0.15, 0.2)
    half = select(cases, cases, None, (1, 2), _config(fraction=0.5))
    assert [sorted(d.organs) for d in half.decisions] == [[1], [2], [1], [2]]
    result = select(cases, cases, None, (1, 2), _config(fraction=0.5, stable=0.2))
    assert [sorted(d.organs) for d in result.decisions] == [[1], [2], [1], [1, 2]]
    assert result.decisions[3].reasons == {}
    lost = _cases(math.inf, 0.1)
    assert select(lost, lost, None, (1,), _config(fraction=0.5, stable=0.2)).kept == ("c1",)
    judged = {case: _judged(9.0, o1=9.0) for case in cases}
    with pytest.raises(UserError, match="no pseudo-label is left"):
        select(cases, cases, judged, (1,), _config(stable=0.5, prior_filter=True))


def test_threshold_and_ties():
    cases = _cases(0.1, 0.4, 0.2, 0.3)
    result = select(cases, cases, None, (1,), _config(scope="case", threshold=0.2))
    assert result.kept == ("c0", "c2")
    same = _cases(0.5, 0.5, 0.5, 0.5)
    assert select(same, same, None, (1,), _config(scope="case")).kept == ("c0", "c1", "c2")


def test_infinite_always_goes_and_counts_towards_the_fraction():
    cases = _cases(0.1, math.inf, 0.2, 0.3)
    result = select(cases, cases, None, (1,), _config(scope="case"))
    assert result.kept == ("c0", "c2", "c3")
    result = select(cases, cases, None, (1,), _config(scope="case", fraction=0.0))
    assert result.kept == ("c0", "c2", "c3")
    nothing = _cases(math.inf, math.inf)
    with pytest.raises(UserError, match="no pseudo-label is left"):
        select(nothing, nothing, None, (1,), _config())
    with pytest.raises(UserError, match="no pseudo-label is left"):
        select((), {}, None, (1,), _config())


def test_one_round_or_one_case_survives():
    assert select(["a"], None, None, (1,), _config()).kept == ("a",)
    one = _cases(0.9)
    assert select(one, one, None, (1,), _config(fraction=0.9)).kept == ("c0",)


def test_prior_is_a_second_filter():
    cases = _cases(0.1, 0.4, 0.2, 0.3)
    judged = {k: _judged(1.0, o1=1.0, o2=1.0) for k in cases} | {"c0": _judged(9.0, o1=9.0)}
    config = _config(scope="case", prior_filter=True)
    result = select(cases, cases, judged, (1, 2), config)
    assert result.kept == ("c2", "c3")
    assert "implausible: z 9.00" in result.decisions[0].reasons[None]
    organ = select(cases, None, judged, (1, 2), _config(prior_filter=True))
    assert organ.decisions[0].organs == {2}  # the organ that nothing judges stays
    assert organ.decisions[0].kept
    off = select(cases, None, judged, (1, 2), _config(prior_filter=False))
    assert off.decisions[0].organs == {1, 2}


def test_missing_rows_are_named():
    with pytest.raises(UserError, match="no instability") as caught:
        select(["a"], {}, None, (1,), _config())
    assert caught.value.case == "a"
    with pytest.raises(UserError, match="no plausibility"):
        select(["a"], None, {}, (1,), _config(prior_filter=True))


def test_json_is_the_same_twice():
    cases = _cases(0.1, math.inf, 0.2, 0.3)
    texts = {
        json.dumps(select(order, cases, None, (1, 2), _config()).to_json(), allow_nan=False)
        for order in (list(cases), list(reversed(cases)))
    }
    assert len(texts) == 1


def test_config_refuses():
    for wrong in ({"rounds": 0}, {"fraction": 1.0}, {"threshold": 0}, {"epochs": 3}):
        with pytest.raises(ValueError):
            RefineConfig(**wrong)
