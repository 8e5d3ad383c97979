"""The numbers of Table 8, and the files that hold them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from labelferry.errors import UserError
from labelferry.predict.costs import CaseCost, CostTable
from labelferry.predict.memory import Sample
from labelferry.predict.tables import Failure


def cost(case: str = "a", seconds: float = 1.0, *mb: float) -> CaseCost:
    """Samples every 0.1 s from 0."""
    return CaseCost(case, seconds, tuple(Sample(0.1 * i, v) for i, v in enumerate(mb or (10.0,))))


def table(*cases: CaseCost) -> CostTable:
    return CostTable(
        cases=cases,
        failures=(Failure("broken", "not a readable NIfTI file"),),
        device="a CPU",
        memory="resident",
        interval=0.1,
        baseline_mb=0.0,
        model="student",
        export="fast",
        version="0",
    )


def test_area_and_sum() -> None:
    one = cost("a", 0.4, 0.0, 100.0, 300.0, 200.0)
    assert one.peak_mb == 300
    assert one.sample_sum_mb == 600
    # 5 + 20 + 25 between the samples, and 0.1 s of 200 MB until the exit
    assert one.area_mb_s == pytest.approx(70)
    level = cost("a", 20.0, *[5000.0] * 200)
    assert level.area_mb_s == pytest.approx(100_000)
    assert level.sample_sum_mb == 1_000_000  # the size of the numbers in Table 8
    late = CaseCost("a", 2.0, (Sample(0.5, 8.0),))
    assert late.area_mb_s == 16


def test_tolerances() -> None:
    assert not cost("a", 15.0, 4096.0).over_time
    assert not cost("a", 15.0, 4096.0).over_memory
    assert cost("a", 15.1).over_time
    assert cost("a", 1.0, 1.0, 4097.0).over_memory


def test_summary_is_that_of_table_8() -> None:
    several = table(*(cost(str(t), t) for t in (1.0, 2.0, 3.0, 4.0, 10.0)))
    summary = several.summary("seconds")
    assert (summary.p25, summary.p50, summary.p75, summary.mean) == (2, 3, 4, 4)
    assert summary.sd == pytest.approx(12.5**0.5)
    assert summary.n == 5
    assert table(cost()).summary("peak_mb").sd is None
    assert table().summary("peak_mb").mean is None
    with pytest.raises(UserError, match="no such quantity"):
        several.summary("watts")


def test_json_and_csv(tmp_path: Path) -> None:
    made = table(cost("a", 16.0, 1.0, 5000.0), cost("b", 2.0))
    made.write_json(tmp_path / "costs.json")
    read = json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(made.to_json()))
    assert read["schema_version"] == 1
    assert read["tolerance"] == {"seconds": 15.0, "mb": 4096.0}
    assert read["cases"][0] == {
        "case": "a",
        "seconds": 16.0,
        "peak_mb": 5000.0,
        "area_mb_s": pytest.approx(79_750.05),
        "sample_sum_mb": 5001.0,
        "over_time": True,
        "over_memory": True,
        "samples_s": [0.0, 0.1],
        "samples_mb": [1.0, 5000.0],
    }
    assert read["summary"]["seconds"]["mean"] == 9
    assert read["failures"] == [{"case": "broken", "reason": "not a readable NIfTI file"}]
    made.write_csv(tmp_path / "costs.csv")
    with (tmp_path / "costs.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["a", "b", "broken"]
    assert (rows[0]["seconds"], rows[0]["over_time"], rows[0]["error"]) == ("16.0", "True", "")
    assert (rows[2]["seconds"], rows[2]["error"]) == ("", "not a readable NIfTI file")
    assert {"area_mb_s", "sample_sum_mb", "peak_mb"} < set(rows[0])
