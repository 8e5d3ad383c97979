"""One pair of translators for each target domain."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import labelferry
from labelferry.errors import UserError
from labelferry.files import read_json, write_json
from labelferry.io.nifti import write_volume
from labelferry.pipeline.config import load_config
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.reporting import collect, report_run
from labelferry.pipeline.runfile import read_run
from labelferry.pipeline.stages.teach import training_examples
from labelferry.pipeline.story import explain
from labelferry.pipeline.translations import find_translations, plan_translations
from labelferry.volume import Grid, Volume

ODD = "t2: ü/* with a <name> that no file may have"
DOMAINS = {"T1": "T1", "T2": "T2", "DWI": ODD}
PER_DOMAIN = (
    "translate.per_domain=true",
    "translate.iterations=6",
    "translate.audit.least_agreement=0.9999",
    "translate.audit.most_left_out=0.5",
    "teach.mix={curves=0.5, fake=0.6}",
)


class StopError(Exception):
    """Stands for a kill."""


class Told:
    """Keeps what a run says; ends it at the n-th step of a kind of work."""

    def __init__(self, what: str = "", after: int = 0) -> None:
        self.what, self.after = what, after
        self.notes: list[str] = []
        self.done: list[str] = []

    def stage(self, name: str, state: str, text: str) -> None:
        pass

    def progress(self, what: str, done: int, total: int) -> None:
        self.done.append(what)
        if what == self.what and done > self.after:
            raise StopError

    def note(self, text: str, level: str) -> None:
        self.notes.append(text)


def adapt(run: Path, cohort: Path, tiny: tuple[str, ...], **more: object) -> Told:
    events = more.pop("events", None) or Told()
    labelferry.adapt(
        run,
        cohort / "source",
        cohort / "target",
        size="demo",
        overrides=(*tiny, *PER_DOMAIN),
        until=more.pop("until", "translate"),
        events=events,
        **more,
    )
    assert isinstance(events, Told)
    return events


@pytest.fixture(scope="module")
def odd(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort with a domain whose name is no file's."""
    folder = tmp_path_factory.mktemp("odd") / "cohort"
    shutil.copytree(cohort, folder)
    rename(folder, DOMAINS)
    return folder


def rename(folder: Path, domains: dict[str, str]) -> None:
    table = folder / "target" / "cohort.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    for row in rows:
        row["domain"] = domains[row["domain"]]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def run(
    odd: Path, tiny: tuple[str, ...], told: Told, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("domains") / "run"
    adapt(folder, odd, tiny, events=told)
    return folder


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "state.json")
    }


def test_every_ct_has_a_fake_of_each_domain(run: Path, told: Told) -> None:
    found = find_translations(run / "translate")
    assert [one.domain for one in found] == ["T1", "T2", ODD]
    cases = [f"ph000{n}_CT" for n in (1, 2, 3)]
    seen = set()
    for one in found:
        assert re.fullmatch(r"[A-Za-z0-9-]{1,50}", one.folder.name)
        assert sorted(p.name for p in (one.folder / "fake").iterdir()) == [
            f"{case}.nii.gz" for case in cases
        ]
        assert list(read_json(one.folder / "audit.json", schema=1)["cases"]) == cases
        assert (one.folder / "samples" / "step_000006.png").exists()
        seen |= {one.fake(case).read_bytes() for case in cases}
    assert len(seen) == 9
    assert not (run / "translate" / "fake").exists()
    manifest = Manifest.read(run / "translate")
    assert manifest is not None
    assert manifest.summary["iterations"] == 18
    assert "9 fake MRI of 3 domains, 18 steps" in manifest.summary["text"]
    assert [row["iterations"] for row in manifest.summary["domains"].values()] == [6, 6, 6]
    # each domain's fakes are judged by themselves: one of three is left out, in each
    assert [len(row["left_out"]) for row in manifest.summary["domains"].values()] == [1, 1, 1]
    assert len(manifest.summary["left_out"]) == 3
    assert any(note.startswith(f"{ODD}: The audit finds that 3 of 3") for note in told.notes)


def test_names_that_differ_in_little_have_folders_of_their_own(tmp_path: Path) -> None:
    found = plan_translations(tmp_path, ["t1", "T1", "T1*", "T1/", "", "T1", "CON", "x" * 300])
    names = [one.folder.name.lower() for one in found]
    assert len(set(names)) == len(found) == 7
    assert all(re.fullmatch(r"[a-z0-9-]{1,50}", name) for name in names)
    assert [one.domain for one in find_translations(tmp_path)] == [one.domain for one in found]


def test_the_share_of_fakes_is_divided_among_those_that_are_left(run: Path) -> None:
    config, _ = read_run(run)
    context = SimpleNamespace(config=config, of=lambda stage: run / stage)
    examples = training_examples(context)  # type: ignore[arg-type]
    assert len({example.id for example in examples}) == len(examples)
    manifest = Manifest.read(run / "translate")
    assert manifest is not None
    for case in ("ph0001_CT", "ph0002_CT", "ph0003_CT"):
        kept = [
            one.folder.name
            for one in find_translations(run / "translate")
            if case not in manifest.summary["domains"][one.domain]["left_out"]
        ]
        mine = [e for e in examples if e.id.startswith(f"{case}.fake")]
        assert [e.id for e in mine] == [f"{case}.fake.{name}" for name in kept]
        assert [e.weight for e in mine] == [0.6 / len(kept)] * len(kept)
        assert all(path.exists() for e in mine for path in e.channels)
    assert sum(e.weight for e in examples if e.id.endswith(".curves")) == 1.5


def test_the_report_and_explain_know_them(run: Path) -> None:
    data = collect(run)
    assert {row.name: row.value for row in data.outputs}["fake MRI"] == "9"
    detail = next(row.detail for row in data.outputs if row.name == "fake MRI")
    assert "T1: agreement with" in detail
    assert f"{ODD}: agreement with" in detail
    assert next(row.value for row in data.problems if row.name == "fake MRI left out") == "3"
    reasons = [row.reason for row in data.rejected]
    assert sum(r.startswith(f"fake MRI left out of teaching: {ODD}: ") for r in reasons) == 1
    (view, *_) = [case for case in data.cases if case.role == "source"]
    assert list(view.fakes.values()) == ["T1", "T2", ODD]
    assert "fake" not in view.layers
    curves = {"L_gan^t", "L_gan^s", "L_cyc", "L_identity", "L of D_t", "L of D_s"}
    assert {
        n.partition("/")[2] for n in data.losses or {} if n.startswith("translate T1/")
    } == curves
    assert {n.partition("/")[2] for n in data.losses or {} if "t2: ü-" in n} == curves
    page = report_run(run).read_text(encoding="utf-8")
    assert "Fake T2 + label" in page
    assert "that no file may have + label" in page
    assert "<name>" not in page
    assert "L_identity" in page
    found = explain(run, "ph0004_T1")
    assert found.domain == "T1"


@pytest.mark.parametrize(
    ("what", "after"),
    [
        ("T1: translator steps", 4),
        ("T1: fake MRI", 1),
        ("T2: translator steps", 0),
        ("T2: fake MRI audited", 1),
        (f"{ODD}: translator steps", 5),
    ],
)
def test_killed_and_resumed_is_the_same(
    run: Path, odd: Path, tiny: tuple[str, ...], tmp_path: Path, what: str, after: int
) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "translate")
    with pytest.raises(StopError):
        adapt(again, odd, tiny, events=Told(what, after))
    assert Manifest.read(again / "translate") is None
    events = adapt(again, odd, tiny)
    assert digest(again / "translate") == digest(run / "translate")
    if what.startswith("T2"):  # what was done is not done again
        assert "T1: translator steps" not in events.done
    assert not list(again.rglob(".part-*"))


def test_a_domain_learns_the_same_whatever_others_there_are(
    run: Path, odd: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    alone = tmp_path / "cohort"
    shutil.copytree(odd, alone)
    table = alone / "target" / "cohort.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(row for row in rows if ",T2,T2," in row)]) + "\n")
    for path in (alone / "target" / "images").iterdir():
        if "_T2" not in path.name:
            path.unlink()
    adapt(tmp_path / "run", alone, tiny)
    one, two = (
        next(t.folder for t in find_translations(folder / "translate") if t.domain == "T2")
        for folder in (run, tmp_path / "run")
    )
    assert digest(one) == digest(two)


def test_teaching_goes_on_from_them(
    run: Path, odd: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    adapt(again, odd, tiny, until="teach")
    seen = read_json(again / "teach" / "model" / "bundle.json")
    assert "0.3" in str(seen)  # the weight of a fake of which one more is left
    assert len(list((again / "teach" / "labels").glob("*.nii.gz"))) == 10


def test_a_domain_of_one_slice_is_told_and_one_without_contrast_refused_at_once(
    cohort: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    mine = tmp_path / "cohort"
    shutil.copytree(cohort, mine)
    images = mine / "target" / "images"
    ramp = np.zeros((40, 30, 12), np.float32)
    ramp[8:32, 6:24] = 100
    spacing = np.diag([9.6, 9.6, 15.0, 1.0])
    rng = np.random.default_rng(0)
    thin = ramp[:, :, :1] * rng.uniform(0.5, 1, (40, 30, 1)).astype(np.float32)
    write_volume(images / "thin_ADC.nii.gz", Volume(thin, Grid(thin.shape, spacing)))
    table = mine / "target" / "cohort.csv"
    with table.open("a") as stream:
        stream.write("thin_ADC,thin,MR,ADC,ADC,images/thin_ADC.nii.gz,,\n")
    events = adapt(tmp_path / "run", mine, tiny)
    assert any("target domain ADC has 1 slice in all" in note for note in events.notes)
    assert [t.domain for t in find_translations(tmp_path / "run" / "translate")] == [
        "ADC",
        "DWI",
        "T1",
        "T2",
    ]
    # every axial slice has one value, each another: the image as a whole is not constant
    even = np.broadcast_to(np.linspace(50, 100, 12, dtype=np.float32), ramp.shape).copy()
    write_volume(images / "even_PD.nii.gz", Volume(even, Grid(even.shape, spacing)))
    with table.open("a") as stream:
        stream.write("even_PD,even,MR,PD,PD,images/even_PD.nii.gz,,\n")
    events = Told()
    with pytest.raises(UserError, match="no usable slice") as caught:
        adapt(tmp_path / "run", mine, tiny, events=events)
    assert "even_PD" in str(caught.value)
    assert not any("translator steps" in what for what in events.done)


def test_off_unless_asked_for() -> None:
    for preset in ("default", "paper", "asit", "only-ct"):
        assert not load_config(preset, "demo").translate.per_domain


def test_a_run_with_one_translation_has_the_folder_itself(tmp_path: Path) -> None:
    (only,) = find_translations(tmp_path)
    assert (only.folder, only.domain, only.fake_id) == (tmp_path, None, "fake")
    assert only.fake("a") == tmp_path / "fake" / "a.nii.gz"
    rows = {"a": {"kept": False, "reason": "liver"}, "b": {"kept": True, "reason": ""}}
    write_json(tmp_path / "audit.json", {"schema_version": 1, "cases": rows})
    assert only.left_out() == {"a": "liver"}
