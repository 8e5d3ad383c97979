"""The rows of the ablation: one TOML file each, so that a new row is a new file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelferry.errors import UserError
from labelferry.pipeline.config import RunConfig, build_config, load_config


@dataclass(frozen=True)
class Group:
    """Rows that come with the package and answer one question together."""

    folder: str
    heading: str
    """Of the page."""
    title: str
    """Of the main table."""
    stem: str
    """Of the names of the files that hold its tables."""


GROUPS = {
    "steps": Group("rows", "Ablation", "Ablation (Table 7)", "ablation"),
    "sources": Group(
        "sources", "Sources of training images", "Sources of training images", "sources"
    ),
}
"""Our groups of rows: the steps of the method, and the images that a teacher learns from."""


class PaperScore(BaseModel):
    """The paper's own number for a row (Table 7), in per cent."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dsc: float
    nsd: float


class Row(BaseModel):
    """One row: a configuration, and the stage whose model is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """The file's name without suffix; names the row's run folder."""
    name: str
    """As it stands in the table."""
    order: int
    """Rows are shown, and each is compared with the one before, in this order."""
    preset: str
    """The method it starts from."""
    stage: Literal["teach", "refine", "distil", "oracle"]
    """Whose model is scored. ``oracle``: a network of ``refine``'s size and steps, trained on the
    true labels of the target cohort; no stage of the method, only a measure for the others."""
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")
    """What differs from the preset, nested as in a preset file."""
    large_student: bool = False
    """Train ``distil`` as large and as long as a round of ``refine``."""
    against: tuple[str, ...] = ()
    """Keys of the rows that it is compared with, case by case; the main table shows the first."""
    paper: PaperScore | None = None

    def config(self, size: str, overrides: Iterable[str]) -> RunConfig:
        """The row's configuration at a size; ``overrides`` hold for every row."""
        config = load_config(self.preset, size, overrides, changes=self.changes)
        if not self.large_student:
            return config
        values = config.model_dump(mode="json")
        for key in ("network", "train"):
            values["distil"][key] = values["refine"][key]
        return build_config(values)


def load_rows(
    keys: Sequence[str] = (), folder: Path | None = None, *, group: str = "steps"
) -> tuple[Row, ...]:
    """Rows in their order: those of one of our groups and those of ``folder``.

    ``keys`` picks some. A file of ``folder`` takes the place of ours of the same name. Raises
    ``UserError`` for an unknown group or key, and for a file that is not a row.
    """
    if group not in GROUPS:
        raise UserError("unknown table of rows", seen=group, allowed=", ".join(GROUPS))
    files: dict[str, Traversable] = {}
    places: list[Traversable] = [resources.files("labelferry.experiments") / GROUPS[group].folder]
    if folder is not None:
        if not folder.is_dir():
            raise UserError("no such folder of rows", path=folder)
        places.append(folder)
    for place in places:
        files |= {p.name[:-5]: p for p in place.iterdir() if p.name.endswith(".toml")}
    unknown = [key for key in keys if key not in files]
    if unknown:
        raise UserError("unknown row", seen=unknown[0], allowed=", ".join(sorted(files)))
    rows = [_read(key, files[key]) for key in (keys or files)]
    return tuple(sorted(rows, key=lambda row: (row.order, row.key)))


def _read(key: str, file: Traversable) -> Row:
    try:
        return Row.model_validate({"key": key, **tomllib.loads(file.read_text(encoding="utf-8"))})
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"row '{key}' is not valid TOML", seen=str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"row '{key}': {where}: {first['msg']}", seen=first.get("input")) from error
