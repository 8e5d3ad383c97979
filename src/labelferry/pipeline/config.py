"""The configuration of a run: one section per component, presets and sizes, and overrides."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelferry.anatomy.config import AnatomyConfig
from labelferry.errors import UserError
from labelferry.match.config import MatchConfig
from labelferry.predict.config import PredictConfig
from labelferry.refine.config import RefineConfig
from labelferry.report.config import ReportConfig
from labelferry.segment.config import Contrast, NetworkConfig, Space, TrainConfig
from labelferry.translate.config import TranslateConfig

_NOT_WITH_DATASET = "scales each repainted image by its own mean and SD: use normalisation 'image'"
_NO_CURVES = "sees no curve with train.curves_p = 0: set it above 0"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MixConfig(_Section):
    """What a teacher is trained on: relative shares of each kind of image of a labelled CT."""

    ct: float = Field(0.0, ge=0)
    """The CT itself (Table 7, row "Only CT")."""
    curves: float = Field(0.0, ge=0)
    """The CT behind a random intensity curve (ours)."""
    convolutions: float = Field(0.0, ge=0)
    """The CT behind a shallow network of random weights (GIN, Ouyang et al. 2022)."""
    paint: float = Field(0.0, ge=0)
    """The CT painted anew with a random contrast: each organ of its label map and each tissue that
    its Hounsfield units tell apart in a random brightness (ours). An organ that a case does not
    annotate is painted as the tissue that it looks like."""
    fake: float = Field(1.0, ge=0)
    """Fake MRI made from the CT by translation (paper 2.2)."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.ct + self.curves + self.convolutions + self.paint + self.fake <= 0:
            raise ValueError("one of ct, curves, convolutions, paint and fake must be above 0")
        return self


class TeachConfig(_Section):
    """The network that makes the first pseudo-labels (paper 2.2)."""

    space: Space = "anatomy"
    """Its input: anatomy space as in the paper, the plain image, or both."""
    mix: MixConfig = MixConfig()
    """Its training images."""
    normalisation: Literal["image", "dataset"] = "image"
    """Intensities by each image's own mean and SD, or by the data set's (paper 2.5)."""
    network: NetworkConfig = NetworkConfig()
    """Table 2, column "Default"."""
    train: TrainConfig = TrainConfig()
    """Table 4."""
    complete: bool = False
    """Where source cases annotate different organs: first learn on the CT as they are, by the same
    steps, and label in each what it is silent on (ours)."""
    complete_from: float = Field(0.1, ge=0, le=1)
    """Share of the labels below that have to be lacking for this to be worth its training."""
    complete_least: int = Field(3, ge=1)
    """Organs that fewer source cases annotate are not added to the others."""
    complete_limit: float = Field(5.0, gt=0)
    """Largest plausibility z of an organ that is added."""

    @model_validator(mode="after")
    def _channels(self) -> Self:
        mix = self.mix
        if self.space == "both" and (mix.fake or mix.curves or mix.convolutions or mix.paint):
            raise ValueError("space 'both' needs real images of both kinds: use mix.ct alone")
        for share in get_args(Contrast):
            if not getattr(self.mix, share):
                continue
            if self.space == "anatomy":
                # anatomy space is scaled by the edges of a whole volume: a patch does not show them
                raise ValueError(f"mix.{share} repaints plain images: use space 'plain'")
            if self.normalisation == "dataset":
                raise ValueError(f"mix.{share} {_NOT_WITH_DATASET}")
        if self.mix.curves and not self.train.curves_p:
            raise ValueError(f"mix.curves {_NO_CURVES}")
        return self


class StudentConfig(_Section):
    """A network trained on pseudo-labelled MRI."""

    space: Space = "plain"
    """Its input. The paper does not say; plain MRI is our reading."""
    normalisation: Literal["image", "dataset"] = "image"
    """Intensities by each image's own mean and SD, or by the data set's (paper 2.5)."""
    source_share: float = Field(0.0, ge=0, lt=1)
    """Share of labelled CT with a random contrast among the training images (ours)."""
    source_kind: Contrast = "curves"
    """How these get their contrast: behind random intensity curves or convolutions, or painted
    anew (ours)."""
    network: NetworkConfig = NetworkConfig()
    """Table 2."""
    train: TrainConfig = TrainConfig()
    """Table 4."""

    @model_validator(mode="after")
    def _channels(self) -> Self:
        if self.source_share and self.space != "plain":
            raise ValueError("source_share repaints plain CT: use space 'plain'")
        if self.normalisation == "dataset" and self.source_share:
            raise ValueError(f"source_share {_NOT_WITH_DATASET}")
        if self.source_share and self.source_kind == "curves" and not self.train.curves_p:
            raise ValueError(f"source_share {_NO_CURVES}")
        return self


class SelfTrainingConfig(StudentConfig):
    """The rounds of self-training (paper 2.3)."""

    select: RefineConfig = RefineConfig()
    """Rounds, instability, filter and fusion (eq. 7)."""
    from_teacher: bool = False
    """Round 1 goes on from the teacher's weights instead of random ones (ours); it is then as short
    as a later round. Needs the teacher's input, network and normalisation."""
    later: TrainConfig = TrainConfig()
    """Training of every round that goes on from a network before it."""


class DistilConfig(StudentConfig):
    """The small network that ships (paper 2.4)."""

    network: NetworkConfig = NetworkConfig(channels=16, downsamplings=4)
    """Table 2, column "Small"."""
    inherit: bool = False
    """Begin from evenly chosen features of the network of ``refine`` (ours). Where the two differ
    in input or kernels, or it has fewer features, the small one begins from random weights."""
    spacing: Literal["auto"] | tuple[float, float, float] | None = None
    """Its voxels in mm, (x, y, z). None: those of ``prepare.spacing``, as in the paper (2.5).
    ``auto``: those, with a patch to suit, of the least predicted work at which the pseudo-labels
    lose no more than ``auto_loss`` (ours)."""
    auto_loss: float = Field(1.0, ge=0, le=100)
    """``auto``: points of DSC that the pseudo-labels may lose on the way to these voxels and back,
    in the mean over the organs; no label of an MRI is looked at (ours)."""

    @model_validator(mode="after")
    def _voxels(self) -> Self:
        if isinstance(self.spacing, tuple) and min(self.spacing) <= 0:
            raise ValueError(f"spacing {self.spacing} must be positive")
        return self


class Limits(_Section):
    """How many cases a run uses; 0 means all."""

    source: int = 0
    """Labelled CT."""
    target: int = 0
    """MRI."""


class RunConfig(_Section):
    """Everything that decides the result of a run, besides its input."""

    preset: str = "default"
    """Name of the method."""
    size: str = "full"
    """Name of the budget."""
    seed: int = Field(0, ge=0)
    """Every random draw follows from it."""
    device: str = "auto"
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``."""
    devices: int = Field(1, ge=1)
    """Processes that share each batch of a training, a GPU each (on a CPU: all of them). The result
    is that of one process up to rounding. Translators take as many as their batch divides by."""
    threads: int = Field(0, ge=0)
    """CPU threads of torch; 0 takes all cores. A fixed number gives the same bits again."""
    workers: int = Field(1, ge=1)
    """Processes for work that is done case by case."""
    max_hours: float = Field(0.0, ge=0)
    """Hours that a start of the run may take; each training is cut to the whole epochs that fit its
    share, once, by its speed over the first steps. 0: no limit, and nothing depends on the clock.
    """
    teacher: str = ""
    """A model folder of nnU-Net whose labels of the MRI take the place of a teacher's training;
    empty: the teacher is trained."""
    limit_source: int = Field(0, ge=0)
    """Number of CT used, in the order of their ids; 0 takes all. Paper: 100."""
    limit_target: int = Field(0, ge=0)
    """Number of MRI used, in the order of their ids; 0 takes all. Paper: 300."""
    prepare: AnatomyConfig = AnatomyConfig()
    """Working grid, intensity, anatomy space."""
    translate: TranslateConfig = TranslateConfig()
    """Fake MRI (2.1)."""
    teach: TeachConfig = TeachConfig()
    """First pseudo-labels (2.2)."""
    match: MatchConfig = MatchConfig()
    """Multi-domain matching (2.2)."""
    refine: SelfTrainingConfig = SelfTrainingConfig()
    """Self-training with a filter (2.3)."""
    distil: DistilConfig = DistilConfig()
    """The small network (2.4, Table 2 column "Small")."""
    predict: PredictConfig = PredictConfig()
    """Inference (2.4, Table 1)."""
    report: ReportConfig = ReportConfig()
    """The page at the end."""

    @property
    def from_teacher(self) -> bool:
        """Whether round 1 of ``refine`` goes on from the weights of a teacher that was trained."""
        return self.refine.from_teacher and not self.teacher

    def limits(self) -> Limits:
        """How many cases are used."""
        return Limits(source=self.limit_source, target=self.limit_target)

    @model_validator(mode="after")
    def _stages_go_together(self) -> Self:
        same = ("space", "normalisation", "network")
        if self.refine.from_teacher and any(
            getattr(self.refine, key) != getattr(self.teach, key) for key in same
        ):
            raise ValueError(
                "refine.from_teacher needs the same space, normalisation and network in teach "
                "and refine"
            )
        if self.teach.mix.fake and not self.teacher:
            if not self.translate.enabled:
                raise ValueError("teach.mix.fake needs translate.enabled = true")
            if self.translate.space != self.teach.space:
                raise ValueError(
                    f"translate.space '{self.translate.space}' makes fakes that a teacher in "
                    f"teach.space '{self.teach.space}' cannot read: set both alike"
                )
        return self


def available(kind: Literal["preset", "size"]) -> tuple[str, ...]:
    """Names of the presets or sizes that come with the package."""
    names = (p.name for p in resources.files("labelferry.presets").iterdir())
    stems = sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    return tuple(s.removeprefix(f"{kind}-") for s in stems if s.startswith(f"{kind}-"))


def load_config(
    preset: str = "default",
    size: str = "full",
    overrides: Iterable[str] = (),
    *,
    changes: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a preset at a size, with ``section.key=value`` overrides.

    Later ones win: built-in values (the paper's), size, preset, ``changes`` (nested as in a preset
    file), overrides. ``preset`` may also be the path of a TOML file. Raises ``UserError`` for an
    unknown name or key, suggesting the nearest, and for a value that is not allowed.
    """
    values: dict[str, Any] = {}
    _merge(values, _read("size", size))
    _merge(values, _read("preset", preset))
    _merge(values, changes or {})
    for override in overrides:
        _merge(values, _parse_override(override))
    values |= {"preset": Path(preset).stem, "size": size}
    return build_config(values)


def taught_by(teacher: Path) -> tuple[str, ...]:
    """The overrides that put a model folder of nnU-Net in a teacher's place."""
    return f"teacher={json.dumps(str(teacher.resolve()))}", "translate.enabled=false"


def build_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate nested values; mistakes become ``UserError``."""
    _refuse_unknown(values, RunConfig, "")
    _refuse_infinite(values, "")
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"configuration: {where or 'values that do not go together'}: "
            f"{first['msg'].removeprefix('Value error, ')}",
            seen=None if not where else first.get("input"),
            fix="see 'labelferry adapt --help' and docs/reference/configuration.md",
        ) from error


def _read(kind: Literal["preset", "size"], name: str) -> dict[str, Any]:
    if kind == "preset" and name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError("preset file not found", path=path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError("the preset cannot be read", path=path, seen=str(error)) from error
    else:
        names = available(kind)
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise UserError(
                f"unknown {kind}",
                seen=name,
                allowed=", ".join(names),
                fix=f"did you mean '{near[0]}'?" if near else None,
            )
        source = resources.files("labelferry.presets") / f"{kind}-{name}.toml"
        text = source.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{kind} '{name}' is not valid TOML", seen=str(error)) from error


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not key:
        raise UserError("an override must read section.key=value", seen=text)
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word is a string
    nested: Any = parsed
    for part in reversed(key.split(".")):
        nested = {part: nested}
    assert isinstance(nested, dict)
    return nested


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _refuse_unknown(values: Mapping[str, Any], model: type[BaseModel], prefix: str) -> None:
    for key, value in values.items():
        if key not in model.model_fields:
            names = [f"{prefix}{name}" for name in model.model_fields]
            near = difflib.get_close_matches(f"{prefix}{key}", names, n=1, cutoff=0.4)
            raise UserError(
                "unknown configuration key",
                seen=f"{prefix}{key}",
                allowed=", ".join(names),
                fix=f"did you mean '{near[0]}'?" if near else None,
            )
        inner = model.model_fields[key].annotation
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _refuse_unknown(value, inner, f"{prefix}{key}.")


def _refuse_infinite(value: Any, where: str) -> None:
    """TOML knows ``inf`` and ``nan``; no value of ours may be either."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_infinite(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_infinite(inner, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"configuration: {where}: not a finite number", seen=value)
