"""How the cases of a run look, remembered in its folder: a start that goes on reads no image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from labelferry.anatomy.groups import Look, look_of_case
from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.files import hash_value, write_json
from labelferry.pipeline.events import Events
from labelferry.pipeline.executor import for_light_work, map_cases

NAME = "looks.json"
_REVISION = 1
"""Raised when the same image gets another look."""


def look_cases(
    cases: Sequence[Case], events: Events, run: Path | None, workers: int
) -> Iterator[Look | None]:
    """The look of each case, in order; None where an image cannot be read.

    Looks are remembered in the folder ``run`` (where there is one) by the paths, sizes and times of
    the files, as hashes: paths may name patients.
    """
    known = _read(run)
    keys = [_key(case) for case in cases]
    todo = [case for case, key in zip(cases, keys, strict=True) if key not in known]
    made: dict[str, Look | None] = {}
    jobs = map_cases(look_of_case, todo, workers=for_light_work(workers, len(todo)))
    for done, (case, look) in enumerate(jobs, start=1):
        events.progress("images looked at", done, len(todo))
        made[case.id] = None if isinstance(look, UserError) else look
    found = [
        np.array(known[key]) if key in known else made[case.id]
        for case, key in zip(cases, keys, strict=True)
    ]
    if run is not None and made:
        seen = {k: look.tolist() for k, look in zip(keys, found, strict=True) if look is not None}
        with suppress(OSError):  # a folder that cannot be written to is said when the run begins
            write_json(run / NAME, {"revision": _REVISION, "looks": seen})
    yield from found


def _key(case: Case) -> str:
    marks = []
    for path in case.files:
        try:
            status = path.stat()
            marks.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
        except OSError:
            marks.append([str(path), 0, 0])
    return hash_value(marks)


def _read(run: Path | None) -> Mapping[str, list[float]]:
    if run is None or not (run / NAME).exists():
        return {}
    try:
        value = json.loads((run / NAME).read_text(encoding="utf-8"))
        return dict(value["looks"]) if value["revision"] == _REVISION else {}
    except (ValueError, TypeError, KeyError, OSError):  # damaged: made again
        return {}
