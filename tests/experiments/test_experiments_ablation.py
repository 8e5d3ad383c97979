"""The ablation from end to end on tiny networks: shared stages, resuming, and what is refused."""

import csv
import json
import shutil
from contextlib import contextmanager

import nibabel
import numpy as np
import pytest

from labelferry.cli import run as command
from labelferry.errors import UserError
from labelferry.experiments.ablation import Plan
from labelferry.experiments.rows import GROUPS, load_rows
from labelferry.experiments.run import run_ablation
from labelferry.experiments.trial import cohort_trials
from labelferry.pipeline.events import Silent

KEYS = ("only-ct", "asit", "asit-retrain", "asit-mdm", "oracle")


class Told(Silent):
    """Keeps what the stages tell."""

    def __init__(self):
        self.lines = []

    def stage(self, name, state, text):
        if state != "start":
            self.lines.append((name, state))

    def note(self, text, level):
        if level == "warning":
            self.lines.append((text, level))

    @contextmanager
    def open(self, name):
        yield self


def trials(folder, cohort, **other):
    places = {
        "source": cohort / "source",
        "target": cohort / "target",
        "test": cohort / "test",
        "truth": cohort / "truth" / "test",
        "target_truth": cohort / "truth" / "target",
    }
    return cohort_trials(folder, [1], **{**places, **other})


@pytest.fixture(scope="module")
def done(cohort, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    told = Told()
    plan = Plan(load_rows(KEYS), "demo", tiny)
    made = run_ablation(
        folder, plan, trials(folder, cohort), jobs=1, events=told.open, shared_patients=True
    )
    return folder, plan, made, told


def test_every_row_is_scored(done):
    folder, _, made, _ = done
    assert [result.row.key for result in made.results] == list(KEYS)
    with (folder / "ablation.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert {line["row"] for line in lines} == set(KEYS)
    assert "| ASIT + MDM |" in (folder / "ablation.md").read_text()
    assert "ASIT + retraining" in (folder / "ablation.html").read_text()
    assert r"\toprule" in (folder / "ablation.tex").read_text()


def test_what_rows_have_in_common_is_made_once(done):
    _, _, _, told = done
    made = [name for name, state in told.lines if state == "done"]
    assert made.count("prepare") == 1
    assert made.count("translate") == 2  # off for only CT, and once for ASIT
    assert made.count("teach") == 2
    assert made.count("refine") == 2  # with and without matching


def test_a_second_call_makes_nothing(done, cohort):
    folder, plan, made, _ = done
    told = Told()
    before = (folder / "seed1" / "scores" / "asit.json").stat().st_mtime_ns
    again = run_ablation(
        folder, plan, trials(folder, cohort), jobs=1, events=told.open, shared_patients=True
    )
    assert not [line for line in told.lines if line[1] == "done"]
    assert (folder / "seed1" / "scores" / "asit.json").stat().st_mtime_ns == before
    assert (again.main, again.organs) == (made.main, made.organs)


def test_a_row_does_not_depend_on_its_neighbours(done, cohort, tiny, tmp_path):
    """A stage that was taken from another row's run gives what the row alone would have made."""
    plan = Plan(load_rows(["asit-mdm"]), "demo", tiny)
    alone = run_ablation(
        tmp_path, plan, trials(tmp_path, cohort), jobs=1, events=Told().open, shared_patients=True
    )
    (together,) = (r for r in done[2].results if r.row.key == "asit-mdm")
    assert alone.results[0].seeds[1].to_json() == together.seeds[1].to_json()


def test_without_target_truth_there_is_no_oracle_and_it_is_said(cohort, tiny, tmp_path):
    told = Told()
    plan = Plan(load_rows(["oracle"]), "demo", tiny)
    made = run_ablation(
        tmp_path,
        plan,
        trials(tmp_path, cohort, target_truth=None),
        jobs=1,
        events=told.open,
        shared_patients=True,
    )
    assert made.results == ()
    assert any("no oracle" in text for text, _ in told.lines)


def test_a_test_image_of_the_target_cohort_is_refused(cohort, tiny, tmp_path):
    test = tmp_path / "test"
    test.mkdir()
    image = next((cohort / "target" / "images").glob("*.nii.gz"))
    shutil.copy(image, test / "other_name.nii.gz")
    plan = Plan(load_rows(["only-ct"]), "demo", tiny)
    with pytest.raises(UserError, match=r"in the target cohort too.*other_name"):
        run_ablation(
            tmp_path / "run",
            plan,
            trials(tmp_path / "run", cohort, test=test),
            jobs=1,
            events=Told().open,
            shared_patients=True,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "at least one seed"),
        (["--rows", "nonsense"], "unknown row"),
        (["--rows", "src-ct"], "unknown row"),
        (["--table", "source"], "sources"),
        (["--size", "dem"], "demo"),
        (["--truth", "x"], "--source, --target, --test and --truth"),
        (["--source", "x"], "--source needs"),
        (["--rows-folder", "nowhere"], "no such folder of rows"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(arguments, message, tmp_path, capsys):
    assert command(["ablate", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


SOURCES = ("src-ct", "src-curves", "src-paint", "oracle")


@pytest.fixture(scope="module")
def chosen(cohort, tiny, tmp_path_factory):
    """Three teachers and the oracle."""
    folder = tmp_path_factory.mktemp("sources")
    return folder, sources(folder, cohort, tiny)


def sources(folder, cohort, tiny, **other):
    rows = load_rows(SOURCES, group="sources")
    plan = Plan(rows, "demo", tiny, group=GROUPS["sources"])
    return run_ablation(
        folder,
        plan,
        trials(folder, cohort, **other),
        jobs=1,
        events=Told().open,
        shared_patients=True,
    )


def test_sources_leave_tables_of_their_own(chosen):
    folder, made = chosen
    assert made.main[0].title == "Sources of training images"
    titles = [table.title for table in made.main]
    assert "Choosing the training images without labels" in titles
    assert all(f"### {title}" in (folder / "sources.md").read_text() for title in titles)
    for end in (".tex", ".html"):
        assert "Choosing the training images" in (folder / f"sources{end}").read_text()
    assert made.choice and made.choice.startswith("chosen without labels")
    assert not (folder / "ablation.md").exists()
    with (folder / "sources-teachers.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["row"] for line in lines] == list(SOURCES[:3])
    assert all(0 <= float(line["validation_dsc"]) <= 1 for line in lines)


def test_the_choice_needs_no_truth_of_the_target(chosen, cohort, tiny, tmp_path):
    """Without it: the same criteria to the byte, the same choice, nothing to hold it against."""
    folder, made = chosen
    shutil.copytree(folder / "seed1" / "runs", tmp_path / "seed1" / "runs")
    again = sources(tmp_path, cohort, tiny, target_truth=None)
    criteria = (tmp_path / "seed1" / "criteria.json").read_bytes()
    assert criteria == (folder / "seed1" / "criteria.json").read_bytes()
    assert made.choice.startswith(again.choice) and "truth" not in again.choice
    assert (folder / "seed1" / "validation" / "src-ct.json").exists()
    assert not (tmp_path / "seed1" / "validation").exists()


def test_pseudo_labels_are_scored_as_the_oracle_sees_the_truth(chosen, cohort):
    """By hand for one organ of one case, on the working grid."""
    folder, _ = chosen
    run = folder / "seed1" / "runs" / "src-curves"
    value = json.loads((folder / "seed1" / "validation" / "src-curves.json").read_text())
    labels = next(folder.glob("seed1/runs/oracle/oracle/*/labels"))
    assert len(value["cases"]) == len(list(labels.iterdir())) == 10
    for case in value["cases"]:
        true = np.asarray(nibabel.load(labels / f"{case['case']}.nii.gz").dataobj) == 1
        path = run / "teach" / "labels" / f"{case['case']}.nii.gz"
        mine = np.asarray(nibabel.load(path).dataobj) == 1
        dsc = 2 * (mine & true).sum() / (mine.sum() + true.sum())
        assert case["organs"]["liver"]["dsc"] == pytest.approx(dsc)


def test_two_teachers_are_no_choice(done):
    folder, _, made, _ = done
    assert made.choice is None
    assert not (folder / "seed1" / "criteria.json").exists()
    assert not any("without labels" in table.title for table in made.main)


@pytest.mark.parametrize(
    ("arguments", "stem", "first", "number"),
    [([], "ablation", "only-ct", 11), (["--table", "sources"], "sources", "src-ct", 15)],
)
def test_the_table_of_rows_is_chosen_on_the_command_line(
    arguments, stem, first, number, cohort, tmp_path, monkeypatch
):
    seen = []

    def stop(folder, plan, trials, **other):
        seen.append(plan)
        raise UserError("enough seen")

    monkeypatch.setattr("labelferry.experiments.run.run_ablation", stop)
    places = ("--source", "source", "--target", "target", "--test", "test", "--truth", "truth/test")
    call = [part if part.startswith("--") else str(cohort / part) for part in places]
    assert command(["ablate", str(tmp_path), *call, *arguments]) == 2
    (plan,) = seen
    assert (plan.group.stem, plan.rows[0].key, len(plan.rows)) == (stem, first, number)


def test_seeds_side_by_side_give_the_same_scores(done, cohort, tiny, tmp_path):
    """Two seeds in two processes; seed 1 as it is alone."""
    rows = ["--rows", "only-ct", "--rows", "asit"]
    sets = [part for value in tiny for part in ("--set", value)]
    places = [
        *("--source", cohort / "source", "--target", cohort / "target"),
        *("--test", cohort / "test", "--truth", cohort / "truth" / "test"),
    ]
    call = ["ablate", tmp_path / "run", *places, *rows, *sets, "--jobs", "2"]
    assert command([str(part) for part in call]) == 0
    for key in ("only-ct", "asit"):
        mine = (tmp_path / "run" / "seed1" / "scores" / f"{key}.json").read_text()
        assert mine == (done[0] / "seed1" / "scores" / f"{key}.json").read_text()
    assert (tmp_path / "run" / "seed2" / "scores" / "asit.json").exists()
