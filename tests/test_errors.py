from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from labelferry.errors import EXIT_DONE, EXIT_FAULT, EXIT_INPUT, EXIT_PARTIAL, UserError


def test_the_message_holds_every_fact():
    error = UserError(
        "label map and image differ in shape",
        case="p01_T1",
        path=Path("labels/p01_T1.nii.gz"),
        seen=(64, 44, 17),
        allowed=(64, 44, 28),
        fix="export it again",
    )
    assert str(error) == (
        f"p01_T1: label map and image differ in shape ({Path('labels/p01_T1.nii.gz')}); "
        "seen: (64, 44, 17); allowed: (64, 44, 28). Export it again"
    )


def test_absent_facts_leave_no_trace():
    assert str(UserError("nothing to do")) == "nothing to do"
    assert str(UserError("bad value", seen=0)) == "bad value; seen: 0"
    assert str(UserError("bad value", fix="")) == "bad value"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_comes_back_from_a_worker_process(protocol):
    error = UserError("w", case="c", path="p/q", seen=[1], allowed="a", fix="f")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is UserError
    assert vars(back) == vars(error)
    assert str(back) == str(error)


class NarrowerError(UserError):
    exit_code = EXIT_PARTIAL


def test_a_kind_of_error_stays_that_kind():
    back = pickle.loads(pickle.dumps(NarrowerError("w", case="c")))
    assert type(back) is NarrowerError
    assert back.exit_code == EXIT_PARTIAL


def test_exit_codes():
    assert (EXIT_DONE, EXIT_FAULT, EXIT_INPUT, EXIT_PARTIAL) == (0, 1, 2, 3)
    assert UserError("x").exit_code == EXIT_INPUT
