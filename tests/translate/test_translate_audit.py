from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from labelferry.organs import FLARE
from labelferry.pipeline.config import load_config
from labelferry.translate.audit import Measures, OrganMeasures, audit
from labelferry.translate.config import AuditConfig
from labelferry.translate.explain import Scene, coarsened, explain
from labelferry.translate.faults import Space, auc, trial_scene
from labelferry.translate.verdict import fakes_left_out, judge, summarise, write_audit

COUNT = 6


@pytest.fixture(scope="module")
def clean() -> dict[str, Measures]:
    return {f"c{n}": audit(trial_scene((1, n), "anatomy")).measures for n in range(COUNT)}


def severities(clean: dict[str, Measures], faulty: dict[str, Measures]) -> list[np.ndarray]:
    verdicts = judge({**clean, **faulty}, AuditConfig(), FLARE)
    return [np.array([verdicts[case].severity for case in part]) for part in (clean, faulty)]


def test_erased_organs_are_found(clean: dict[str, Measures]) -> None:
    """benchmarks/audit.py: AUC 1.00 over 25 each; the bound here is for 6 each."""
    faulty = {
        f"f{n}": audit(trial_scene((2, n), "anatomy", "erased")).measures for n in range(COUNT)
    }
    one, two = severities(clean, faulty)
    assert auc(one, two) >= 0.95
    assert one.max() < 1
    assert (two > 1).mean() >= 0.7


def test_local_deformations_of_5_mm_are_found(clean: dict[str, Measures]) -> None:
    """benchmarks/audit.py: AUC 0.96 over 25 each."""
    faulty = {
        f"f{n}": audit(trial_scene((4, n), "anatomy", "deformed", 5.0)).measures
        for n in range(COUNT)
    }
    one, two = severities(clean, faulty)
    assert auc(one, two) >= 0.85
    assert (two > 1).mean() >= 0.4


@pytest.mark.parametrize("space", ["anatomy", "plain"])
def test_the_map_shows_where_structure_was_lost_and_made_up(space: Space) -> None:
    whole = trial_scene((2, 3), "anatomy")
    gone = whole.fake.copy()
    kidney = np.argwhere(whole.labels == 2)
    low, high = kidney.min(0) - 2, kidney.max(0) + 3
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    gone[box] = 0.0
    made = whole.fake.copy()
    x, y, z = kidney.mean(0).astype(int)
    made[x - 3 : x + 3, y - 3 : y + 3, z - 1 : z + 2] = 1.0
    lost, found = (
        audit(replace(whole, fake=fake, in_edges=space == "anatomy")) for fake in (gone, made)
    )
    if space == "anatomy":
        assert lost.structure[box].mean() < -5
        assert lost.measures.lost_ml > 50
        assert found.structure[x, y, z] > 5
    assert found.measures.hallucinated_ml > 5


def test_the_source_explains_any_curve_of_itself() -> None:
    scene = trial_scene((1, 0), "plain")
    curve = np.asarray(np.sin(6 * scene.image) / 2 + 0.5, np.float32)
    found = audit(replace(scene, fake=curve)).measures
    assert found.agreement > 0.99
    # organs of a single value in CT: their edges are the noise's
    assert min(organ.agreement for organ in found.organs.values()) > 0.8
    assert max(organ.displacement for organ in found.organs.values()) < 0.3


def test_the_fit_stays_within_the_body_and_deviations_are_positive() -> None:
    scene = trial_scene((1, 0), "plain")
    found = explain(scene)
    assert (found.deviation > 0).all()
    assert not found.residual(scene)[~scene.body].any()
    assert np.array_equal(found.expected[~scene.body], scene.fake[~scene.body])


def blob(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Scene:
    rng = np.random.default_rng(0)
    image = rng.random(shape).astype(np.float32)
    body = np.ones(shape, np.bool_)
    labels = np.zeros(shape, np.uint8)
    labels[shape[0] // 4 : shape[0] // 2] = 3
    return Scene(image, image, image, body, labels, spacing)


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 30, 1), (3, 2, 2), (1, 40, 30), (30, 20, 12)])
def test_any_shape_is_measured(shape: tuple[int, int, int]) -> None:
    for scene in (
        blob(shape, (3.2, 3.2, 5.0)),
        replace(blob(shape, (0.8, 0.8, 5.0)), fake=np.zeros(shape, np.float32)),
        replace(blob(shape, (3.2, 3.2, 5.0)), body=np.zeros(shape, np.bool_)),
        replace(blob(shape, (3.2, 3.2, 5.0)), labels=np.zeros(shape, np.uint8)),
    ):
        found = audit(scene)
        assert np.isfinite(found.structure).all()
        text = json.dumps(found.measures.to_json(), allow_nan=False)
        assert Measures.from_json(json.loads(text)).to_json() == found.measures.to_json()


def test_a_flat_fake_agrees_with_nothing() -> None:
    scene = blob((30, 20, 12), (3.2, 3.2, 5.0))
    found = audit(replace(scene, fake=np.full(scene.fake.shape, 0.5, np.float32)))
    assert found.measures.agreement == 0
    verdict = judge({"a": found.measures}, AuditConfig(most_left_out=1), FLARE)["a"]
    assert not verdict.kept
    assert "spleen: agreement with the CT 0.00" in verdict.reason


def test_finer_images_are_averaged() -> None:
    scene = blob((40, 41, 12), (0.8, 0.8, 2.5))
    coarse, by = coarsened(scene)
    assert by == (4, 4, 2)
    assert coarse.spacing == pytest.approx((3.2, 3.2, 5.0))
    assert coarse.image.shape == coarse.labels.shape == (10, 10, 6)
    assert coarse.image[1, 2, 3] == pytest.approx(scene.image[4:8, 8:12, 6:8].mean())
    same, by = coarsened(blob((4, 4, 4), (5.0, 5.0, 5.0)))
    assert by == (1, 1, 1)
    assert same.image.shape == (4, 4, 4)


def measures(agreement: float, displacement: float = 0.2) -> Measures:
    organ = OrganMeasures(100.0, agreement, 2 * displacement, displacement)
    return Measures(agreement, (), {1: organ}, 0.0, 0.0, None)


def test_verdicts_by_hand() -> None:
    # atanh: 0.9 -> 1.472, 0.5 -> 0.549; all alike but one: the spread is the floor, 0.1
    even = {f"c{n}": measures(0.9) for n in range(7)}
    verdicts = judge({**even, "odd": measures(0.5)}, AuditConfig(z_structure=4), FLARE)
    assert verdicts["odd"].severity == pytest.approx((1.4722 - 0.5493) / 0.1 / 4, rel=1e-3)
    assert verdicts["odd"].reason == "liver: agreement with the CT 0.50 (z 9.2)"
    assert not verdicts["odd"].kept
    assert all(verdicts[case].kept and not verdicts[case].reason for case in even)
    moved = judge({**even, "odd": measures(0.9, 1.2)}, AuditConfig(z_displacement=5), FLARE)
    assert moved["odd"].severity == pytest.approx((1.2 - 0.2) / 0.1 / 5)
    assert moved["odd"].reason == "liver: displaced by about 2.4 mm (z 10.0)"


def test_few_fakes_are_judged_by_the_limits_alone() -> None:
    some = {f"c{n}": measures(0.9) for n in range(3)}
    config = AuditConfig(least_agreement=0.4, most_displacement=2.0)
    verdicts = judge({**some, "odd": measures(0.5), "bad": measures(0.3)}, config, FLARE)
    assert verdicts["odd"].severity == pytest.approx(0.5 / 0.6)
    assert not verdicts["bad"].kept


def test_no_more_than_a_share_is_left_out_and_the_worst_first() -> None:
    bad = {f"b{n}": measures(0.1 * n) for n in range(3)}
    config = AuditConfig(most_left_out=0.5)
    verdicts = judge({**bad, "good": measures(0.9)}, config, FLARE)
    assert [case for case, v in verdicts.items() if v.severity > 1] == ["b0", "b1", "b2"]
    assert [case for case, v in verdicts.items() if not v.kept] == ["b0", "b1"]


def test_a_run_in_few_words() -> None:
    fakes = {f"b{n}": measures(0.1 * n) for n in range(3)} | {"good": measures(0.9)}
    config = AuditConfig(most_left_out=0.25)
    found = summarise(judge(fakes, config, FLARE), fakes, config)
    assert found["left_out"] == ["b0"]
    assert found["agreement"] == pytest.approx(0.15)
    assert found["flicker"] is None
    (note,) = found["notes"]
    assert "3 of 4 fake MRI do not keep" in note
    assert "2 of these teach all the same: at most a share of 0.25" in note
    even = {"good": measures(0.9)}
    assert summarise(judge(even, config, FLARE), even, config)["notes"] == []
    assert summarise({}, {}, config)["agreement"] is None


@pytest.mark.parametrize(("preset", "share"), [("paper", 0.0), ("asit", 0.0), ("default", 0.5)])
def test_presets_that_follow_the_paper_leave_no_fake_out(preset: str, share: float) -> None:
    assert load_config(preset, "demo").translate.audit.most_left_out == share


def test_the_file_says_who_may_not_teach_and_why(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert fakes_left_out(tmp_path / "audit.json") == {}
    measured = {"a": measures(0.1), "b": measures(0.9)}
    write_audit(tmp_path / "audit.json", judge(measured, AuditConfig(), FLARE), measured)
    found = fakes_left_out(tmp_path / "audit.json")
    assert list(found) == ["a"]
    assert found["a"].startswith("liver: agreement")
    row = json.loads((tmp_path / "audit.json").read_text())["cases"]["b"]
    assert row["kept"]
    assert row["organs"]["1"]["agreement"] == 0.9


def test_area_under_the_curve_by_hand() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == pytest.approx(3.5 / 4)
