"""What a run folder says of itself: its configuration, its organs, its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.files import read_json, write_json
from labelferry.organs import OrganSet
from labelferry.pipeline.config import RunConfig, build_config
from labelferry.pipeline.manifest import Manifest

FILE_NAME = "run.json"
SCHEMA_VERSION = 1
STAGE_NAMES = ("prepare", "translate", "teach", "match", "refine", "distil", "report")


def write_run(run: Path, config: RunConfig, organs: OrganSet, facts: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_json(
        run / FILE_NAME,
        {
            "schema_version": SCHEMA_VERSION,
            "config": config.model_dump(mode="json"),
            "organs": organs.to_json(),
            **facts,
        },
    )


def read_run(run: Path) -> tuple[RunConfig, OrganSet]:
    """The configuration and the organs of a run folder."""
    if not (run / FILE_NAME).is_file():
        raise UserError(
            "not a run folder",
            path=run,
            fix="make one with 'labelferry adapt RUN --source CT --target MRI'",
        )
    value = read_json(run / FILE_NAME, schema=SCHEMA_VERSION)
    try:
        return build_config(value["config"]), OrganSet.from_json(value["organs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError("run.json is damaged", path=run / FILE_NAME, seen=repr(error)) from error


def read_manifests(run: Path) -> dict[str, Manifest]:
    """Those of the stages that are done, in their order."""
    found = ((name, Manifest.read(run / name)) for name in STAGE_NAMES)
    return {name: manifest for name, manifest in found if manifest is not None}
