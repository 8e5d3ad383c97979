"""The gap that a row closes, and its cost, worked by hand."""

import pytest

from labelferry.evaluate.results import Evaluation
from labelferry.evaluate.scores import CaseScores, Score
from labelferry.experiments.gap import Cost, gap_share, gap_table, read_cost
from labelferry.experiments.rows import load_rows
from labelferry.experiments.tables import RowResult
from labelferry.pipeline.manifest import Manifest

ROWS = {row.key: row for row in load_rows(group="sources")}


def result(key, **seeds):
    evaluations = {
        int(seed[1:]): Evaluation(
            "strict", ("liver",), (CaseScores("p_T1", {"liver": Score(dsc, dsc)}, patient="p"),)
        )
        for seed, dsc in seeds.items()
    }
    return RowResult(ROWS[key], evaluations, False)


def test_share_of_the_gap():
    assert gap_share(0.5, 0.3, 0.7) == pytest.approx(0.5)
    assert gap_share(0.2, 0.3, 0.7) == pytest.approx(-0.25)
    assert gap_share(0.3, 0.3, 0.7) == 0.0 and gap_share(0.7, 0.3, 0.7) == 1.0


def test_there_is_no_share_of_no_gap():
    assert gap_share(0.5, 0.7, 0.7) is None and gap_share(0.5, 0.7, 0.3) is None
    assert gap_share(None, 0.3, 0.7) is None and gap_share(0.5, None, 0.7) is None


def test_pooled_and_for_each_seed():
    rows = [
        result("asit", s1=0.2, s2=0.4),
        result("src-curves", s1=0.5, s2=0.5),
        result("oracle", s1=0.8, s2=0.6),
    ]
    costs = {"src-curves": [Cost(0.0, 100.0, 400), Cost(0.0, 110.0, 400)]}
    table = gap_table(rows, costs)
    # pooled (0.5 - 0.3) / (0.7 - 0.3)
    assert table.rows[1] == (
        "random curves",
        "50.0",
        "50.0",
        "50.0 / 50.0",
        "400",
        "1 min 45 s",
        "–",
    )
    assert table.rows[0][2:4] == ("0.0", "0.0 / 0.0")
    assert table.rows[2][2:] == ("100.0", "100.0 / 100.0", "–", "–", "–")


def test_only_the_seeds_that_all_three_have_are_pooled():
    rows = [
        result("asit", s1=0.2, s2=0.4),
        result("src-curves", s2=0.5),
        result("oracle", s1=0.8, s2=0.6),
    ]
    assert gap_table(rows, {}).rows[1][1:4] == ("50.0", "50.0", "– / 50.0")


@pytest.mark.parametrize("without", ["asit", "oracle"])
def test_without_one_of_its_ends_there_is_no_gap(without):
    keys = {"asit", "src-curves", "oracle"} - {without}
    assert gap_table([result(key, s1=0.5) for key in keys], {}) is None


@pytest.fixture
def run(tmp_path):
    for stage, seconds in {"translate": 40.0, "teach": 100.0, "match": 5.0, "refine": 7.0}.items():
        (tmp_path / stage).mkdir()
        done = Manifest(stage, "f", {}, {}, (), 0, {}, seconds, 1.0, {}, {})
        done.write(tmp_path / stage)
    return tmp_path


def test_translation_costs_only_what_uses_it(run):
    def cost(key):
        row = ROWS[key]
        return read_cost(run, row, row.config("demo", ()))

    steps = ROWS["asit"].config("demo", ()).teach.train.iterations
    assert cost("src-curves") == Cost(0.0, 100.0, steps)
    assert cost("src-curves-fake") == cost("asit") == Cost(40.0, 100.0, steps)
    assert cost("oracle") is None


def test_a_later_row_costs_its_later_stages_too(run):
    (row,) = load_rows(["asit-mdm"])
    assert read_cost(run, row, row.config("demo", ())).training == 112.0
    (row,) = load_rows(["small"])
    assert read_cost(run, row, row.config("demo", ())) is None  # distil is not done
