"""Rows, tables and their formats, on scores made by hand."""

import pytest

from labelferry.errors import UserError
from labelferry.evaluate.results import Evaluation
from labelferry.evaluate.scores import CaseScores, Score
from labelferry.experiments.formats import WordTable, as_latex, as_markdown, as_text
from labelferry.experiments.rows import GROUPS, load_rows
from labelferry.experiments.run import LADDER
from labelferry.experiments.tables import (
    RowResult,
    main_table,
    main_tables,
    organ_tables,
    scores_csv,
    step_table,
)
from labelferry.files import csv_text
from labelferry.pipeline.config import available

ORGANS = ("liver", "spleen")


def scored(*values: float) -> Evaluation:
    """One case a patient; the spleen scores half of what the liver does."""
    cases = tuple(
        CaseScores(
            f"p{n}_T1",
            {"liver": Score(v, v), "spleen": Score(v / 2, v / 2)},
            sequence="T1",
            domain="T1",
            patient=f"p{n}",
        )
        for n, v in enumerate(values)
    )
    return Evaluation("strict", ORGANS, cases)


def result(key: str, *seeds: Evaluation, shared: bool = False) -> RowResult:
    return RowResult(load_rows([key])[0], dict(enumerate(seeds, start=1)), shared)


def test_our_rows_are_those_of_table_7_and_their_controls():
    rows = load_rows()
    assert [row.name for row in rows][:3] == ["Only CT", "CycleGAN", "ASIT"]
    assert {row.key for row in rows} >= {*LADDER, "asit-retrain", "asit-mdm-paper", "oracle"}
    assert [row.paper.dsc for row in rows if row.paper and row.key in LADDER] == [
        15.32,
        29.53,
        52.93,
    ]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("size", available("size"))
def test_every_row_is_a_valid_configuration_at_every_size(size, group):
    for row in load_rows(group=group):
        row.config(size, ("seed=3",))


def mixes() -> dict[str, dict[str, float]]:
    found = {}
    for row in load_rows(group="sources"):
        mix = row.config("demo", ()).teach.mix.model_dump()
        found[row.key] = {source: share for source, share in mix.items() if share}
    return found


def test_sources_are_compared_one_by_one_and_mixed():
    """CT, curves, convolutions, painted, fake MRI."""
    assert mixes() == {
        "src-ct": {"ct": 1},
        "src-fake": {"fake": 1},
        "asit": {"fake": 1},
        "asit-inplane": {"fake": 1},
        "asit-local": {"fake": 1},
        "asit-domains": {"fake": 1},
        "src-curves": {"curves": 1},
        "src-paint": {"paint": 1},
        "src-convolutions": {"convolutions": 1},
        "src-curves-fake": {"curves": 0.8, "fake": 0.2},
        "src-curves-paint": {"curves": 0.5, "paint": 0.5},
        "src-all": {"curves": 0.4, "paint": 0.4, "fake": 0.2},
        "src-paint-fake": {"paint": 0.8, "fake": 0.2},
        "src-four": {"curves": 0.3, "convolutions": 0.3, "paint": 0.2, "fake": 0.2},
        "oracle": {"fake": 1},
    }


@pytest.mark.parametrize("size", available("size"))
def test_sources_differ_in_the_mix_alone_and_take_equal_steps(size):
    rows = {row.key: row.config(size, ()) for row in load_rows(group="sources")}
    assert len({config.teach.train.iterations for config in rows.values()}) == 1
    ours = [config for key, config in rows.items() if key.startswith("src-")]
    mix = ours[0].teach.mix
    same = {c.model_copy(update={"teach": c.teach.model_copy(update={"mix": mix})}) for c in ours}
    assert len(ours) == 10 and len({config.model_dump_json() for config in same}) == 1


@pytest.mark.parametrize(
    ("key", "stage", "change"),
    [
        ("asit-inplane", "prepare", {"sobel": "2d"}),
        ("asit-local", "prepare", {"gradient_scale": "local"}),
        ("asit-domains", "translate", {"per_domain": True}),
    ],
)
def test_kinds_of_asit_differ_from_it_in_one_value(key, stage, change):
    rows = {row.key: row.config("demo", ()) for row in load_rows(group="sources")}
    part = getattr(rows["asit"], stage).model_copy(update=change)
    assert rows[key] == rows["asit"].model_copy(update={stage: part})


def test_what_both_groups_hold_is_the_same_configuration():
    """So that a run folder of both trains it once."""
    steps, sources = ({r.key: r for r in load_rows(group=group)} for group in GROUPS)
    shared = steps.keys() & sources.keys()
    assert shared == {"asit", "oracle"}
    for key in shared:
        assert steps[key].config("demo", ()) == sources[key].config("demo", ())
        assert steps[key].stage == sources[key].stage


def test_the_mix_of_preset_default_is_the_row_that_says_so():
    rows = {row.key: row for row in load_rows(group="sources")}
    default = next(row for row in load_rows() if row.key == "default").config("demo", ())
    assert rows["src-all"].config("demo", ()).teach == default.teach


def test_rows_differ_in_configuration_alone():
    plain, matched = (row.config("demo", ()) for row in load_rows(["asit-retrain", "asit-mdm"]))
    assert plain.match.enabled is False and matched.match.enabled is True
    assert plain.model_copy(update={"match": matched.match}) == matched


def test_large_student_is_as_large_and_long_as_a_round():
    config = load_rows(["asit-mdm-plf"])[0].config("demo", ())
    assert config.distil.network == config.refine.network
    assert config.distil.train == config.refine.train
    small = load_rows(["small"])[0].config("demo", ())
    assert small.distil.network.channels < small.refine.network.channels


def test_an_override_wins_over_a_row():
    row = load_rows(["asit-mdm-plf"])[0]
    assert row.config("demo", ("refine.select.rounds=2",)).refine.select.rounds == 2


def test_unknown_row_is_told_with_those_that_there_are():
    with pytest.raises(UserError, match=r"unknown row.*nonsense.*asit-mdm"):
        load_rows(["nonsense"])


def test_unknown_group_is_told_with_those_that_there_are():
    with pytest.raises(UserError, match=r"unknown table.*nonsense.*steps, sources"):
        load_rows(group="nonsense")


def test_own_row_is_a_file(tmp_path):
    (tmp_path / "mine.toml").write_text('name="Mine"\norder=35\npreset="asit"\nstage="teach"\n')
    keys = [row.key for row in load_rows((), tmp_path)]
    assert keys.index("asit") < keys.index("mine") < keys.index("asit-retrain")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name=", "not valid TOML"),
        ('name="x"\norder=1\npreset="asit"\nstage="match"\n', "stage"),
        ('name="x"\norder=1\npreset="asit"\nstage="teach"\nsets={}\n', "sets"),
    ],
)
def test_a_file_that_is_no_row_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=f"row 'mine'.*{message}"):
        load_rows((), tmp_path)


def test_main_table_pools_seeds_and_compares_with_another_row():
    first = result("only-ct", scored(0.2, 0.4), scored(0.4, 0.6))
    second = result("asit", scored(0.4, 0.6), scored(0.6, 0.8))
    lines = main_table([first, second], "Rows").rows
    # mean over organs: (0.4 + 0.2) / 2 of the livers' mean 0.4 and the spleens' 0.2
    assert lines[0][1].startswith("30.0 (")
    # every case gains 0.2 on the liver and 0.1 on the spleen: no patient differs in the gain
    assert lines[1][3] == "+15.0 (+15.0 … +15.0) Only CT"
    assert lines[1][4:] == ("29.5", "31.2")
    assert lines[0][3] == "–"


def test_where_the_paper_has_no_row_there_is_no_column_for_it():
    rows = load_rows(["src-ct", "src-curves"], group="sources")
    results = [RowResult(row, {1: scored(0.2, 0.4)}, False) for row in rows]
    table = main_table(results, "Rows")
    assert table.header == ("row", "DSC %", "NSD %", "DSC against")
    assert all(len(line) == 4 for line in table.rows) and "paper" not in table.note


def test_every_step_is_paired_pooled_and_for_each_seed():
    rows = [
        result("only-ct", scored(0.2, 0.4), scored(0.4, 0.6)),
        result("asit", scored(0.4, 0.6), scored(0.4, 0.6)),
    ]
    (line,) = step_table(rows).rows  # cyclegan was not run
    assert line[0] == "Only CT → ASIT"
    assert line[1].startswith("+7.5 (")
    assert line[4] == "+15.0 / +0.0"


@pytest.mark.parametrize("group", GROUPS)
def test_rows_are_compared_with_rows_that_there_are(group):
    rows = load_rows(group=group)
    keys = [row.key for row in rows]
    for row in rows:
        assert all(keys.index(other) < keys.index(row.key) for other in row.against)


def test_the_same_patients_in_two_seeds_are_no_new_evidence():
    seeds = scored(0.2, 0.4), scored(0.4, 0.6)
    own = result("asit", *seeds).interval("dsc")
    shared = result("asit", *seeds, shared=True).interval("dsc")
    assert (own.patients, shared.patients) == (4, 2)
    assert own.cases == shared.cases == 4


def test_all_tables_have_a_cell_for_every_row_and_organ():
    rows = [result("only-ct", scored(0.2, 0.4)), result("asit", scored(0.4, 0.6))]
    found = (*main_tables(rows, "Rows"), *organ_tables(rows))
    assert len(found) == 8 and found[0].title == "Rows"
    for table in found:
        assert all(len(line) == len(table.header) for line in table.rows)
    dsc = next(table for table in found if table.title.startswith("DSC % per organ"))
    # livers 0.2 and 0.4: mean 30, SD of the sample 14.1
    assert dsc.rows[0] == ("liver", "30.0 ± 14.1", "50.0 ± 14.1")
    assert dsc.rows[-1][0] == "mean"


def test_csv_has_one_line_for_each_organ_of_each_case():
    text = scores_csv([result("asit", scored(0.4, 0.6), scored(0.6, 0.8))]).splitlines()
    assert text[0] == "row,seed,case,patient,domain,organ,dsc,nsd"
    assert text[1] == "asit,1,p0_T1,p0,T1,liver,0.4,0.4"
    assert len(text) == 1 + 2 * 2 * 2


TABLE = WordTable("50 % & more", ("row", "a|b"), (("x_1", "1.0 ± 2"), ("longer", "3")), "Note")


def test_markdown():
    assert as_markdown(TABLE).splitlines() == [
        "### 50 % & more",
        "",
        "Note",
        "",
        "| row | a\\|b |",
        "| --- | ---: |",
        "| x_1 | 1.0 ± 2 |",
        "| longer | 3 |",
    ]


def test_latex_escapes():
    text = as_latex(TABLE)
    assert r"\caption{50 \% \& more. Note}" in text
    assert r"x\_1 & 1.0 $\pm$ 2 \\" in text
    assert r"\begin{tabular}{lr}" in text


def test_text_is_aligned():
    lines = as_text(TABLE).splitlines()
    assert lines[2] == "x_1     1.0 ± 2"
    assert lines[3] == "longer        3"


def test_csv_quotes_and_leaves_none_empty():
    assert csv_text(("a", "b"), [("x,y", None)]) == 'a,b\n"x,y",\n'
