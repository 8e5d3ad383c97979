"""labelferry efficiency, as a person meets it; measuring itself is tested in tests/predict."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labelferry.cli import run
from labelferry.predict import efficiency
from labelferry.predict.costs import CaseCost, CostTable
from labelferry.predict.memory import Sample
from labelferry.predict.tables import Failure


def cost(case: str, seconds: float, mb: float) -> CaseCost:
    return CaseCost(case, seconds, (Sample(0.0, mb), Sample(0.1, mb)))


class Fake:
    """Stands for ``measure``; remembers what it was asked."""

    def __init__(self, cases: tuple[CaseCost, ...], failures: tuple[Failure, ...] = ()) -> None:
        self.cases, self.failures = cases, failures
        self.asked: dict[str, Any] = {}

    def __call__(self, inputs: object, model: object, **options: Any) -> CostTable:
        self.asked = {"inputs": inputs, "model": model, **options}
        options["progress"](0, 1)
        return CostTable(
            cases=self.cases,
            failures=self.failures,
            device="a GPU",
            memory="device",
            interval=options["interval"],
            baseline_mb=310.0,
            model="student",
            export=options["export"],
            version="0",
        )


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    def use(*cases: CaseCost, failures: tuple[Failure, ...] = ()) -> Fake:
        fake = Fake(cases, failures)
        monkeypatch.setattr(efficiency, "measure", fake)
        return fake

    return use


def test_the_table(use, capsys):
    fake = use(cost("[red]p1_T1", 20.0, 5000.0), cost("p2", 10.0, 3000.0))
    assert run(["efficiency", "a", "b", "--model", "m", "--export", "paper"]) == 0
    assert fake.asked["inputs"] == (Path("a"), Path("b"))
    assert (fake.asked["model"], fake.asked["export"]) == (Path("m"), "paper")
    assert (fake.asked["device"], fake.asked["interval"]) == ("auto", 0.1)
    assert fake.asked["keep"] is None
    text = capsys.readouterr().out
    rows = {line.strip().split("  ")[0]: line for line in text.splitlines()}
    assert max(map(len, rows.values())) < 100
    first = rows["[red]p1_T1"].split()
    assert first[1:] == ["20.0", "!", "5000", "!", "100000", "10000.0"]
    assert rows["p2"].split()[1:] == ["10.0", "3000", "30000", "6000.0"]
    assert rows["25th percentile"].split()[2] == "12.5"
    assert rows["median"].split()[1] == "15.0"
    assert "15.0 ± 7.1" in rows["mean ± SD"]
    assert "sum of samples MB" in text and "area MB·s" in text
    assert "15 s: 1 of 2, 4 GB: 1 of 2" in text
    assert "310 MB were in use before" in text
    assert "every 0.1 s" in text


def test_one_case_has_no_sd(use, capsys):
    use(cost("p1", 1.0, 5.0))
    assert run(["efficiency", "a", "--model", "m", "--interval", "0.5"]) == 0
    assert "1.0 ± n/a" in capsys.readouterr().out


def test_failed_cases(use, capsys, tmp_path):
    broken = Failure("p9", "empty file (0 bytes)")
    use(cost("p1", 1.0, 5.0), failures=(broken,))
    files = ["--json", str(tmp_path / "c.json"), "--csv", str(tmp_path / "c.csv")]
    assert run(["efficiency", "a", "--model", "m", *files]) == 3
    assert "failed: p9: empty file (0 bytes)" in capsys.readouterr().err
    assert json.loads((tmp_path / "c.json").read_text())["failures"][0]["case"] == "p9"
    with (tmp_path / "c.csv").open(newline="") as stream:
        assert [row["case"] for row in csv.DictReader(stream)] == ["p1", "p9"]
    use(failures=(broken,))
    assert run(["efficiency", "a", "--model", "m"]) == 2


def test_an_interrupt_is_no_fault(monkeypatch, capsys):
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(efficiency, "measure", stopped)
    assert run(["efficiency", "a", "--model", "m"]) == 130
    assert "stopped" in capsys.readouterr().err


def test_mistakes_end_with_2(capsys, tmp_path):
    for tokens in (
        ["--model", "m"],
        ["a"],
        [str(tmp_path / "nowhere"), "--model", "m"],
        ["a", "--model", "m", "--json", str(tmp_path)],
        ["a", "--model", "m", "--interval", "0"],
    ):
        assert run(["efficiency", *tokens]) == 2, tokens
        told = capsys.readouterr().err
        assert "error:" in told and "Traceback" not in told, tokens


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from labelferry.cli import run; run(['efficiency', '--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'nibabel', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"INPUT" in done.stdout and b"--keep" in done.stdout
