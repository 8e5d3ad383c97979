"""A stage: name + configuration + inputs → a folder with a manifest."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from labelferry.cases import Cohort
from labelferry.errors import UserError
from labelferry.files import hash_value, sweep_parts, write_json
from labelferry.organs import OrganSet
from labelferry.pace import Decision, Limit
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.events import Events
from labelferry.pipeline.executor import map_cases
from labelferry.pipeline.hours import Hours
from labelferry.pipeline.manifest import Manifest, list_outputs, peak_memory_mb, versions

log = logging.getLogger(__name__)
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Summary:
    """What a stage says of itself when it is done."""

    text: str
    """One line for the terminal and the report."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Cases that could not be done, with the reason."""


@dataclass(frozen=True)
class Stage:
    """One step of the method."""

    name: str
    config: Callable[[RunConfig], Mapping[str, BaseModel]]
    """The sections that decide this stage's result."""
    after: tuple[str, ...]
    """Stages whose outputs it reads."""
    run: Callable[[Context], Summary]
    revision: int = 1
    """Raised when the code changes what the stage makes of the same input."""
    trains: bool = False
    """Whether ``max_hours`` may shorten it, so that its result is another one."""


@dataclass(frozen=True)
class Context:
    """All that a stage may use."""

    stage: str
    run: Path
    config: RunConfig
    organs: OrganSet
    source: Cohort
    target: Cohort
    """Without labels: no stage can reach a target label through it."""
    seed: int
    device: str
    events: Events
    hours: Hours | None = None
    """The time that the run may take; None where it is not limited."""

    @property
    def folder(self) -> Path:
        """Where this stage writes."""
        return self.run / self.stage

    def of(self, stage: str) -> Path:
        """Where another stage has written."""
        return self.run / stage

    def progress(self, what: str) -> Callable[[int, int], None]:
        """A callback for loops: ``done`` of ``total``."""
        return lambda done, total: self.events.progress(what, done, total)

    def limit(self, training: str, *, of: str = "", alike: int = 1) -> Limit | None:
        """When a training of this run is to end; None where its time is not limited.

        ``of``: what it is of, as the start of a sentence; ``alike`` as for ``Hours.until``.
        """
        if self.hours is None:
            return None

        def tell(decision: Decision) -> None:
            text = decision.told(f"{of}{training}")
            log.info("%s", text)
            self.events.note(text, "warning" if decision.too_short else "info")

        return Limit(self.hours.until(training, time.monotonic(), alike), tell)

    def each(
        self,
        what: str,
        work: Callable[[Job], Result],
        jobs: Sequence[Job],
        *,
        name: Callable[[Job], str],
        made: Callable[[Job], Path],
        workers: int = 1,
    ) -> dict[str, str]:
        """Do ``work`` for each job whose file ``made(job)`` is not there yet.

        ``work`` writes that file last and atomically. Returns the refused cases and why.
        """
        failed: dict[str, str] = {}
        todo = [job for job in jobs if not made(job).exists()]
        finished = len(jobs) - len(todo)
        self.events.progress(what, finished, len(jobs))
        for job, result in map_cases(work, todo, workers=workers):
            if isinstance(result, UserError):
                failed[name(job)] = result.without_path()
                self.events.note(str(result), "warning")
            finished += 1
            self.events.progress(what, finished, len(jobs))
        return failed


def stage_seed(seed: int, name: str) -> int:
    """A stage's own seed, so that stages draw independently of each other."""
    return int(hash_value([seed, name])[:8], 16)


def fingerprint(stage: Stage, config: RunConfig, seed: int, inputs: Mapping[str, str]) -> str:
    """Hash of everything that decides a stage's outputs."""
    return hash_value([stage.name, stage.revision, _sections(stage, config), seed, dict(inputs)])


def _sections(stage: Stage, config: RunConfig) -> dict[str, Any]:
    sections = {key: model.model_dump(mode="json") for key, model in stage.config(config).items()}
    # not how many hours: a run goes on with others, and no finished stage is made again for them
    return sections | ({"max_hours": "limited"} if stage.trains and config.max_hours else {})


def is_done(folder: Path, print_of_stage: str) -> Manifest | None:
    """The stage's manifest where it is finished, of this fingerprint, and whole."""
    manifest = Manifest.read(folder)
    if manifest is None or manifest.fingerprint != print_of_stage or not manifest.holds(folder):
        return None
    return manifest


def execute(stage: Stage, context: Context, inputs: Mapping[str, str]) -> Manifest:
    """Run a stage, or go on with it where a killed run of the same fingerprint left it."""
    mark = fingerprint(stage, context.config, context.seed, inputs)
    folder = context.folder
    _enter(folder, mark)
    started = time.monotonic()
    summary = stage.run(context)
    manifest = Manifest(
        stage=stage.name,
        fingerprint=mark,
        config=_sections(stage, context.config),
        inputs=dict(inputs),
        outputs=list_outputs(folder),
        seed=context.seed,
        versions=versions(),
        seconds=round(time.monotonic() - started, 3),
        peak_memory_mb=round(peak_memory_mb(), 1),
        summary={"text": summary.text, **summary.facts},
        failed=dict(summary.failed),
    )
    manifest.write(folder)
    return manifest


def _enter(folder: Path, mark: str) -> None:
    """Keep what a killed run of the same fingerprint made; remove everything else."""
    state = folder / "state.json"
    same = False
    if state.exists() and not (folder / "manifest.json").exists():
        try:
            same = json.loads(state.read_text(encoding="utf-8"))["fingerprint"] == mark
        except (ValueError, KeyError, TypeError):
            log.warning("%s is damaged: the stage starts anew", state)
    if same:
        sweep_parts(folder)
        return
    if folder.exists():
        state.unlink(missing_ok=True)  # first: what a kill leaves of the rest is not gone on with
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_json(state, {"schema_version": 1, "fingerprint": mark})


def merge_failed(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """One table of failed cases from several."""
    return {case: reason for part in parts for case, reason in part.items()}
