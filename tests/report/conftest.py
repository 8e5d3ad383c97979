"""Small made-up cases for the report."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labelferry.organs import FLARE, OrganSet
from labelferry.report.config import ReportConfig
from labelferry.report.data import (
    AblationRow,
    CaseScore,
    CaseView,
    DomainRow,
    Estimate,
    InputRow,
    OrganValues,
    ProvenanceRow,
    Rejected,
    ReportData,
    ScoreRow,
    Scores,
    StageRow,
    Verdict,
)
from labelferry.volume import Grid, Segmentation, Volume

SHAPE = (28, 22, 12)
GRID = Grid(SHAPE, np.diag([4.0, 4.0, 6.0, 1.0]))


@pytest.fixture
def small() -> ReportConfig:
    return ReportConfig(picture_px=80, slices_per_case=4, surface_px=64)


@pytest.fixture
def make_case() -> Callable[..., CaseView]:
    def make(name: str, role: str = "target", domain: str = "T1", **facts: object) -> CaseView:
        index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
        labels = np.zeros(SHAPE, np.uint8)
        labels[((index - (19, 11, 6)) ** 2 / (36, 25, 16)).sum(-1) < 1] = 1
        labels[((index - (8, 8, 6)) ** 2 / (9, 9, 9)).sum(-1) < 1] = 2
        image = Volume((labels / 2).astype(np.float32), GRID)
        layers = {"image": image, "anatomy": image, "truth": Segmentation(labels, GRID)}
        if role == "source":
            layers["fake"] = image
        else:
            layers["result"] = Segmentation(labels, GRID)
        facts = {"layers": layers, **facts}
        return CaseView(name, domain, role, **facts)  # type: ignore[arg-type]

    return make


@pytest.fixture
def bare() -> ReportData:
    return ReportData("A run", "0.1.0", "labelferry adapt", "default", "demo", 1, "2025-01-02")


@pytest.fixture
def full(make_case: Callable[..., CaseView]) -> ReportData:
    organ = FLARE.names[0]
    return ReportData(
        "A <b>run</b>",
        "0.1.0",
        "labelferry adapt <run>",
        "default",
        "demo",
        1,
        "2025-01-02T03:04",
        inputs=(InputRow("Labelled CT", "1", "13 organs"),),
        outputs=(InputRow("results", "2", "stage <distil>"),),
        problems=(InputRow("failed cases", "1", "prepare: 1"),),
        trust=(Verdict("T1", "good", "Plausible."), Verdict("", "poor", "Look at each case.")),
        stages=(
            StageRow("teach", "done", 61.0, 900.0, "fine"),
            StageRow("match", "skipped"),
        ),
        domains=(DomainRow("T1", 2, "anchor", 1.0, 0.1), DomainRow("T2", 1, "follower")),
        cases=(
            make_case("<script>alert(1)</script>", plausibility=1.5, instability=0.02),
            make_case("held", "test", scores={"DSC": 0.5}, plausibility=float("inf")),
            make_case("kept", "test", scores={"DSC": 0.75, "NSD": 0.5}),
            make_case('t"2', domain="T2", notes="a & b"),
            make_case("ct", "source", "CT"),
        ),
        scores=Scores(
            (ScoreRow(organ, Estimate(0.625, 0.5, 0.75), Estimate(None), 2),),
            (ScoreRow("T1", Estimate(0.625), Estimate(None), 2),),
            (CaseScore("held", "T1", organ, 0.5, None), CaseScore("kept", "T1", organ, 0.75, None)),
            ScoreRow("all", Estimate(0.625), Estimate(None), 2),
        ),
        ablation=(
            AblationRow("Only <CT>", Estimate(0.2, 0.1, 0.3), Estimate(0.1), paper_dsc=0.1532),
            AblationRow("ASIT", Estimate(0.5), Estimate(0.4), {"T1": 0.55}, note="the <note>"),
        ),
        instability=(
            OrganValues('t"2', "T2", 0.4, {organ: 0.31, "spleen": float("inf")}),
            OrganValues("<script>alert(1)</script>", "T1", 0.02, {organ: 0.02}),
        ),
        plausibility=(OrganValues("x", "T1", float("inf"), {organ: 4.0}),),
        rejected=(Rejected("x", None, "empty"), Rejected("y", organ, "implausible: z 6 > 5")),
        provenance=(
            ProvenanceRow("x", organ, "network", "round 1"),
            ProvenanceRow("y", "all", "matched", "<x> (same patient)"),
        ),
        warnings=("mind <this>",),
        config_toml="[a]\nb = '<i>'\n",
        versions={"torch": "2"},
        losses={
            "teach/train": ((0.0, 1.0), (1.0, float("nan")), (2.0, 0.5)),
            "teach/_$x$": ((0.0, 1.0),),
            "distil": (),
        },
    )


@pytest.fixture
def two_organs() -> OrganSet:
    return OrganSet.from_json(
        [{"id": 1, "name": "liver", "colour": [220, 120, 90]}, {"id": 2, "name": "<spleen>"}]
    )
