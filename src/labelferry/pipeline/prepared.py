"""Cases after the stage ``prepare``: how later stages find and read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from labelferry.anatomy.prepare import Prepared
from labelferry.files import read_json
from labelferry.io.nifti import read_image, write_volume
from labelferry.prior.model import Prior
from labelferry.segment.engine import CHANNELS
from labelferry.segment.examples import Example
from labelferry.volume import Box, Grid, Segmentation, Volume

if TYPE_CHECKING:
    from labelferry.pipeline.stage import Context
    from labelferry.predict.predictor import Model

Role = Literal["source", "target"]
CASE_SCHEMA = 1


@dataclass(frozen=True)
class PreparedCase:
    """One case on the working grid."""

    id: str
    role: Role
    patient: str
    sequence: str
    domain: str
    annotated: frozenset[int]
    """Organs that the label speaks of; empty for a target."""
    folder: Path
    like: Path | None = None
    """The image whose grid its labels are written on; None: its own image."""
    label: Path | None = None
    """A label map in the place of its own."""

    def file(self, stem: str) -> Path:
        """``image``, ``anatomy``, ``body`` or (source) ``label``."""
        if stem == "label" and self.label is not None:
            return self.label
        return self.folder / f"{stem}.nii.gz"

    def channels(self, space: str) -> tuple[Path, ...]:
        """The files that make the input channels of a space."""
        return tuple(self.file(stem) for stem in CHANNELS[space])

    def example(self, space: str, window: tuple[float, float]) -> Example:
        """A labelled CT as it is, for a training; ``window`` in HU, as it was prepared."""
        return Example(
            f"{self.id}.ct",
            self.channels(space),
            self.file("label"),
            self.annotated,
            window=window,
        )

    def body(self) -> Volume:
        """Bool mask of the patient."""
        body = read_image(self.file("body")).volume
        return body.with_array(body.array > 0.5)

    def read(self) -> Prepared:
        """The volumes and how they lie in the input."""
        row = read_json(self.folder / "case.json", schema=CASE_SCHEMA)
        canonical = Grid(tuple(row["canonical"]["shape"]), np.array(row["canonical"]["affine"]))
        start, stop = row["box"]
        return Prepared(
            image=read_image(self.file("image")).volume,
            anatomy=read_image(self.file("anatomy")).volume,
            body=self.body(),
            canonical=canonical,
            box=Box(tuple(start), tuple(stop)),
        )


def prepared_cases(prepare: Path, role: Role) -> tuple[PreparedCase, ...]:
    """The cases that the stage ``prepare`` let through, in the order of their ids."""
    rows = read_json(prepare / "cases.json", schema=CASE_SCHEMA)["cases"]
    return tuple(
        PreparedCase(
            row["id"],
            role,
            row["patient"],
            row["sequence"],
            row["domain"],
            frozenset(row["annotated"]),
            prepare / role / row["id"],
        )
        for row in rows
        if row["role"] == role
    )


def read_prior(prepare: Path) -> Prior:
    """What the source labels say about organs."""
    return Prior.from_json(read_json(prepare / "prior.json"))


def predict_cases(
    context: Context,
    model: Path,
    cases: Sequence[PreparedCase],
    folder: Path,
    *,
    what: str,
    change: Callable[[PreparedCase, Segmentation], Segmentation] | None = None,
) -> dict[str, str]:
    """Label prepared cases on the grids they ask for, ``folder/<case>.nii.gz``, resumably.

    ``change`` makes of a case's labels what is written.
    """
    from labelferry.predict.predictor import load_model

    loaded: list[Model] = []  # loaded on first need: a finished stage opens no model

    def work(case: PreparedCase) -> None:
        if not loaded:
            loaded.append(load_model(model, device=context.device, config=context.config.predict))
        grid = None if case.like is None else read_image(case.like).volume.grid
        labels = loaded[0].working_labels(case.read(), grid)
        write_volume(folder / f"{case.id}.nii.gz", change(case, labels) if change else labels)

    return context.each(what, work, cases, name=_case_id, made=_label_in(folder))


def _case_id(case: PreparedCase) -> str:
    return case.id


def _label_in(folder: Path) -> Callable[[PreparedCase], Path]:
    return lambda case: folder / f"{case.id}.nii.gz"
