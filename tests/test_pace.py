"""How many steps fit the time: by hand, with a clock that the test moves."""

import pytest

from labelferry import pace
from labelferry.errors import UserError
from labelferry.pace import Limit, Pace, read_decision, steps_that_fit


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (100, 50),  # 5 done + 100 / 2 = 55 steps: 5 whole epochs
        (90, 50),  # 5 + 45 = 50: exactly 5
        (89, 40),  # 49.5: the fifth is not whole
        (1e9, 100),  # never more than configured
        (4, 10),  # 7 steps: not one epoch, so one
        (0, 10),
        (-50, 10),  # late already
    ],
)
def test_whole_epochs_at_least_one_never_more_than_configured(seconds, expected):
    found = steps_that_fit(seconds, 2.0, done=5, epoch=10, configured=100)
    assert found == expected


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(pace.time, "monotonic", lambda: self.now)


def run(folder, clock, limit, *, start=0, seconds=2.0, first=60.0, stop=None):
    """Make the steps of a training; ``first`` is what the first one of a process takes."""
    made = Pace(folder, 1000, 100, start, limit)
    step = start
    while step < made.total(step) and step != stop:
        clock.now += first if step == start else seconds
        step += 1
        made.made(step)
    return step, made.decision


def test_speed_is_measured_after_the_warm_up(tmp_path, monkeypatch):
    clock, told = Clock(monkeypatch), []
    limit = Limit(clock.now + 1000, told.append)
    steps, decision = run(tmp_path, clock, limit)
    # 25 steps: 60 + 24 * 2 = 108 s; the 892 s left are 446 steps; 25 + 446 = 471: 4 epochs of 100
    assert steps == decision.steps == 400 and decision.at == 25
    assert decision.seconds_per_step == 2.0 and not decision.too_short
    assert clock.now < limit.until and told == [decision] == [read_decision(tmp_path)]
    assert "400 of 1000 steps" in decision.told("teacher")


def test_a_resumed_training_keeps_the_decision(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run(tmp_path, clock, Limit(clock.now + 1000), stop=130)
    for begin in (10, 130):
        again, decision = run(tmp_path, clock, Limit(clock.now + 9e9), start=begin)
        assert again == decision.steps == 400
    # the steps before the decision knew the configured number alone, and do so again
    resumed = Pace(tmp_path, 1000, 100, 10, None)
    assert [resumed.total(n) for n in (10, 24, 25, 399)] == [1000, 1000, 400, 400]


def test_a_kill_before_the_decision_measures_again(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    assert run(tmp_path, clock, Limit(clock.now + 1000), stop=20) == (20, None)
    steps, decision = run(tmp_path, clock, Limit(clock.now + 1000), start=20)
    assert decision.at == 45 and steps == 400  # 892 / 2 + 45 = 491
    assert run(tmp_path / "late", clock, Limit(clock.now + 1e6), start=99)[1].at == 100


def test_no_time_at_all_is_one_epoch_and_said(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    steps, decision = run(tmp_path, clock, Limit(clock.now - 5))
    assert steps == 100 and decision.too_short
    assert "too short for one epoch" in decision.told("teacher")


def test_without_a_limit_no_clock_is_read_and_nothing_written(tmp_path, monkeypatch):
    def refuse():
        raise AssertionError("the clock was read")

    monkeypatch.setattr(pace.time, "monotonic", refuse)
    made = Pace(tmp_path, 1000, 100, 0, None)
    for step in range(1, 200):
        made.made(step)
    assert made.total(199) == 1000 and not list(tmp_path.iterdir())


def test_a_decision_about_another_length_is_not_kept(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run(tmp_path, clock, Limit(clock.now + 1000))
    assert Pace(tmp_path, 500, 100, 0, None).total(499) == 500


def test_a_damaged_decision_is_told(tmp_path):
    (tmp_path / pace.FILE_NAME).write_text('{"schema_version": 1, "steps": 3}')
    with pytest.raises(UserError, match="damaged"):
        read_decision(tmp_path)


def test_what_was_cut_is_said_of_all_trainings_together(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run(tmp_path / "a", clock, Limit(clock.now + 1000))
    run(tmp_path / "b", clock, Limit(clock.now + 1e6))
    folders = tmp_path / "a", tmp_path / "b"
    assert pace.cut_short(*folders) == "; 1400 of 2000 steps in the time"
    assert pace.cut_short(folders[1]) == pace.cut_short(tmp_path) == ""
