"""What every stage shares: fingerprints, skipping, resuming, locking, manifests."""

import dataclasses
import json

import pytest

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.organs import FLARE
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.pipeline.executor import map_cases
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.runner import Input, locked, run_stages
from labelferry.pipeline.stage import Stage, Summary


class BoomError(Exception):
    pass


@pytest.fixture
def data(tmp_path):
    image = tmp_path / "image.nii.gz"
    image.write_bytes(b"voxels")
    source = Case("ct", "p", "CT", "CT", "CT", image, image, frozenset({1}))
    return Input(Cohort((source,)), Cohort(()), FLARE)


def chain(calls, *, fail_at=None):
    def make(name, after):
        def run(context):
            calls.append(name)
            done = context.folder / "cases"
            for n in range(3):
                path = done / f"{n}.txt"
                if path.exists():
                    continue
                calls.append(f"{name}{n}")
                if fail_at == f"{name}{n}":
                    raise BoomError
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"{context.seed} {n}")
            return Summary("done")

        return Stage(name, lambda config: {"predict": config.predict}, after, run)

    return (make("one", ()), make("two", ("one",)))


def go(run, stages, data, config=None, **kw):
    config = config or load_config("default", "demo")
    return run_stages(run, stages, config, data, Silent(), device="cpu", **kw)


def test_unchanged_stages_are_not_run_again(tmp_path, data):
    calls = []
    first = go(tmp_path / "run", chain(calls), data)
    assert calls[:1] == ["one"] and "two2" in calls
    calls.clear()
    second = go(tmp_path / "run", chain(calls), data)
    assert calls == [] and first["two"].output_hash == second["two"].output_hash


def test_another_configuration_runs_again(tmp_path, data):
    calls = []
    go(tmp_path / "run", chain(calls), data)
    calls.clear()
    go(tmp_path / "run", chain(calls), data, load_config("default", "demo", ["predict.step=0.25"]))
    assert "one0" in calls and "two0" in calls


def test_another_input_runs_again(tmp_path, data):
    calls = []
    go(tmp_path / "run", chain(calls), data)
    (tmp_path / "image.nii.gz").write_bytes(b"other voxels")
    calls.clear()
    go(tmp_path / "run", chain(calls), data)
    assert "one0" in calls


def test_a_killed_stage_goes_on_with_the_next_case(tmp_path, data):
    calls = []
    with pytest.raises(BoomError):
        go(tmp_path / "run", chain(calls, fail_at="one1"), data)
    assert Manifest.read(tmp_path / "run" / "one") is None
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("traceback" in row for row in log), "our fault leaves its traceback in the log"
    calls.clear()
    go(tmp_path / "run", chain(calls), data)
    assert "one0" not in calls and "one1" in calls


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_output_is_made_again(tmp_path, data, damage):
    calls = []
    go(tmp_path / "run", chain(calls), data)
    path = tmp_path / "run" / "one" / "cases" / "1.txt"
    path.write_bytes(path.read_bytes()[:-1]) if damage == "cut" else path.unlink()
    calls.clear()
    go(tmp_path / "run", chain(calls), data)
    assert "one1" in calls


def test_until_stops_there_and_an_unknown_stage_is_named(tmp_path, data):
    calls = []
    assert set(go(tmp_path / "run", chain(calls), data, until="one")) == {"one"}
    with pytest.raises(UserError, match="unknown stage"):
        go(tmp_path / "run", chain(calls), data, until="three")


def test_second_run_in_one_folder_is_told_so(tmp_path, data):
    with locked(tmp_path / "run"), pytest.raises(UserError, match="in use"):
        go(tmp_path / "run", chain([]), data)


def test_run_folder_that_is_a_file(tmp_path, data):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        go(tmp_path / "run", chain([]), data)


def test_manifest_of_another_schema_is_refused_by_name(tmp_path, data):
    go(tmp_path / "run", chain([]), data)
    path = tmp_path / "run" / "one" / "manifest.json"
    value = json.loads(path.read_text()) | {"schema_version": 0}
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match="schema version"):
        go(tmp_path / "run", chain([]), data)


def test_manifest_round_trip(tmp_path, data):
    manifests = go(tmp_path / "run", chain([]), data)
    again = Manifest.read(tmp_path / "run" / "two")
    assert dataclasses.asdict(again) == dataclasses.asdict(manifests["two"])


def _half(n):
    if n % 2:
        raise UserError("odd", case=str(n), fix="halve it")
    return n // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_refused_cases_do_not_stop_the_others(workers):
    results = dict(map_cases(_half, [0, 1, 2, 4], workers=workers))
    assert [results[n] for n in (0, 2, 4)] == [0, 1, 2]
    assert str(results[1]) == "1: odd. Halve it"
