"""Presets, sizes, overrides, and the mistakes people make in them."""

from pathlib import Path

import pytest

from labelferry.errors import UserError
from labelferry.pipeline.config import available, load_config
from labelferry.pipeline.describe import page


@pytest.mark.parametrize("size", available("size"))
@pytest.mark.parametrize("preset", available("preset"))
def test_every_preset_is_valid_at_every_size(preset, size):
    config = load_config(preset, size)
    assert (config.preset, config.size) == (preset, size)


def test_paper_at_full_size_is_the_paper():
    config = load_config("paper", "full")
    assert config.prepare.spacing == (0.81, 0.81, 2.5)
    assert (config.limit_source, config.limit_target) == (100, 300)
    assert config.translate.space == config.teach.space == "anatomy"
    assert (config.translate.channels, config.translate.blocks) == (64, 9)
    assert (config.translate.lambda_cycle, config.translate.lambda_identity) == (10, 5)
    assert (config.translate.gan_loss, config.translate.identity) == ("vanilla", "paper")
    assert config.teach.network.channels == 32 and config.teach.network.downsamplings == 5
    assert config.distil.network.channels == 16 and config.distil.network.downsamplings == 4
    assert config.teach.train.epochs == 1000 and config.teach.train.optimizer == "sgd"
    assert config.match.criterion == "volume" and not config.match.same_patient_first
    assert (config.match.metric, config.match.space) == ("mean_squares", "anatomy")
    assert config.refine.select.fusion == "union" and config.refine.select.rounds >= 2
    assert config.predict.export == "paper"
    assert not config.predict.solid_signal and not config.predict.neck
    assert not config.distil.inherit and not config.refine.select.stable


def test_overrides_win():
    config = load_config("paper", "demo", ["teach.train.epochs=7", "match.anchors=['DWI']"])
    assert config.teach.train.epochs == 7 and config.match.anchors == ("DWI",)


def test_a_bare_word_is_a_string():
    assert load_config("default", "demo", ["device=cpu"]).device == "cpu"


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("teach.train.epoch=3", "teach.train.epochs"),
        ("translat.enabled=true", "translate"),
        ("teach.netwrk.channels=4", "teach.network"),
    ],
)
def test_unknown_key_suggests_the_nearest(override, hint):
    with pytest.raises(UserError, match="unknown configuration key") as caught:
        load_config("default", "demo", [override])
    assert f"did you mean '{hint}'" in str(caught.value).lower()


def test_unknown_preset_suggests_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'paper'"):
        load_config("papr", "demo")


@pytest.mark.parametrize("override", ["teach.train.epochs=0", "teach.train.epochs=many", "seed"])
def test_a_value_that_is_not_allowed_is_named(override):
    with pytest.raises(UserError) as caught:
        load_config("default", "demo", [override])
    assert override.split("=")[0].split(".")[-1] in str(caught.value)


def test_a_preset_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[teach.train]\nepochs = 3\n")
    config = load_config(str(path), "demo")
    assert config.preset == "mine" and config.teach.train.epochs == 3


def test_fakes_must_be_readable_by_the_teacher():
    with pytest.raises(UserError, match="cannot read"):
        load_config("default", "demo", ["translate.space='anatomy'"])


def test_every_value_of_a_run_says_what_it_is():
    for line in page().splitlines():
        if line.startswith("| `"):
            assert len(line.rsplit("|", 2)[1].strip()) > 10, line


def test_reference_page_is_up_to_date():
    path = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert path.read_text(encoding="utf-8") == page(), "python -m labelferry.pipeline.describe"
