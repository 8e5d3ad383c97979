"""The hours of a run, divided among its trainings; off, nothing changes."""

import pytest

import labelferry
from labelferry.errors import UserError
from labelferry.organs import FLARE
from labelferry.pipeline.chain import dry_run, find_input
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.pipeline.hours import FOR_TRAINING, Hours, trainings
from labelferry.pipeline.stage import fingerprint
from labelferry.pipeline.stages import match, prepare, refine, teach, translate
from labelferry.segment.bundle import read_bundle


def test_the_paper_at_full_size_has_six_trainings():
    found = trainings(load_config("paper", "full"))
    assert found == (
        ("translator", 100_000),
        ("teacher", 250_000),
        ("round 1", 250_000),
        ("round 2", 250_000),
        ("round 3", 250_000),
        ("student", 250_000),
    )


def test_no_hours_go_to_what_is_not_trained():
    config = load_config("only-ct", "demo", ["refine.select.rounds=1"])
    assert trainings(config, "teach") == (("translator", 0), ("teacher", 700))
    assert trainings(config, "match") == trainings(config, "teach")
    assert trainings(config, "prepare") == ()
    assert [name for name, _ in trainings(config, "report")][-2:] == ["round 1", "student"]


def test_a_round_from_the_teacher_is_as_long_as_a_later_one():
    found = dict(trainings(load_config("default", "demo")))
    assert found["round 1"] == found["round 2"] == 160


def test_each_training_has_the_share_of_its_steps_of_what_is_left():
    hours = Hours(1000.0, (("a", 100), ("b", 200), ("c", 100)))
    assert hours.until("a", 0.0) == pytest.approx(FOR_TRAINING * 1000 * 100 / 400)
    # a ended early, at 100: b has 2/3 of the 900 s
    assert hours.until("b", 100.0) == pytest.approx(100 + FOR_TRAINING * 900 * 2 / 3)
    # two trainings named a, as of two domains: 100 of 100 + 100 + 300 steps
    assert hours.until("a", 0.0, alike=2) == pytest.approx(FOR_TRAINING * 1000 * 100 / 500)
    assert hours.until("c", 900.0) == pytest.approx(900 + FOR_TRAINING * 100)
    assert hours.until("c", 1100.0) == 1100.0, "late: nothing is left"


def test_a_configuration_without_hours_has_no_limit():
    assert Hours.of(load_config("paper", "full"), None) is None
    assert Hours.of(load_config("paper", "full", ["max_hours=2"]), None).trainings


def test_only_trainings_are_other_ones_with_a_limit_however_long():
    config, two, three = (
        load_config("paper", "full", [f"max_hours={hours}"]) for hours in (0, 2, 3)
    )
    for stage in (translate, teach, refine):
        marks = [fingerprint(stage.STAGE, c, 1, {}) for c in (config, two, three)]
        assert marks[0] != marks[1] == marks[2]
    for stage in (prepare, match):
        assert len({fingerprint(stage.STAGE, c, 1, {}) for c in (config, two, three)}) == 1


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon"])
def test_hours_that_are_none_are_refused(value):
    with pytest.raises(UserError, match="max_hours"):
        load_config("paper", "full", [f"max_hours={value}"])


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text, level):
        self.notes.append((level, text))


def test_a_run_without_time_trains_one_epoch_each_and_says_so(cohort, tiny, tmp_path):
    events = Notes()
    overrides = (*tiny, "max_hours=1e-9")
    run, source, target = tmp_path / "run", cohort / "source", cohort / "target"
    result = labelferry.adapt(
        run, source, target, preset="only-ct", size="demo", overrides=overrides,
        until="teach", events=events,
    )  # fmt: skip
    summary = result.manifests["teach"].summary
    assert summary["steps"] == 4 and "4 of 12 steps in the time" in summary["text"]
    bundle, _ = read_bundle(run / "teach" / "model")
    assert bundle.provenance["time_limit"]["steps"] == 4
    assert any(level == "warning" and "teacher: the time left" in n for level, n in events.notes)
    # more hours make nothing again; no limit is another training
    for hours, state in ((2, "unchanged"), (0, "to do")):
        config = load_config("only-ct", "demo", (*tiny, f"max_hours={hours}"))
        data, _ = find_input(source, target, FLARE, Silent())
        assert dry_run(run, config, data, "teach")[2].state == state
