"""Run the stages in order in one run folder: lock, skip, resume, log."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from labelferry.cases import Cohort
from labelferry.errors import UserError
from labelferry.files import atomic_folder, hash_file, hash_value, write_json
from labelferry.organs import OrganSet
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.events import Events
from labelferry.pipeline.hours import Hours
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.runfile import write_run
from labelferry.pipeline.stage import (
    Context,
    Stage,
    execute,
    fingerprint,
    is_done,
    stage_seed,
)

log = logging.getLogger("labelferry")


@dataclass(frozen=True)
class Input:
    """What a run works on."""

    source: Cohort
    target: Cohort
    organs: OrganSet

    def unseen(self) -> Input:
        """The same without any label of the target: all that the method may see."""
        return replace(self, target=self.target.without_labels())


@dataclass(frozen=True)
class Planned:
    """A stage and whether its outputs are already there."""

    stage: Stage
    state: str
    """``unchanged`` or ``to do``; after a stage that has to run, all later ones have to."""


def plan(run: Path, stages: Sequence[Stage], config: RunConfig, data: Input) -> list[Planned]:
    """What a run would do, without doing it."""
    data = data.unseen()
    rows: list[Planned] = []
    manifests: dict[str, Manifest] = {}
    for stage in stages:
        if not all(name in manifests for name in stage.after):
            rows.append(Planned(stage, "to do"))
            continue
        inputs = _inputs(stage, manifests, data, run)
        mark = fingerprint(stage, config, stage_seed(config.seed, stage.name), inputs)
        manifest = is_done(run / stage.name, mark)
        if manifest:
            manifests[stage.name] = manifest
        rows.append(Planned(stage, "unchanged" if manifest else "to do"))
    return rows


def run_stages(
    run: Path,
    stages: Sequence[Stage],
    config: RunConfig,
    data: Input,
    events: Events,
    *,
    device: str,
    until: str | None = None,
    reuse: Sequence[Path] = (),
) -> dict[str, Manifest]:
    """Run what has to be run, up to and with stage ``until``; returns all manifests.

    ``reuse`` names other run folders: a stage that one of them has finished with the same
    configuration, seed and input is taken from there.
    """
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise UserError("unknown stage", seen=until, allowed=", ".join(names))
    data = data.unseen()
    manifests: dict[str, Manifest] = {}
    with locked(run), logging_to(run / "log.jsonl"):
        facts = {
            "device": device,
            "until": until,
            "source_cases": len(data.source),
            "target_cases": len(data.target),
        }
        write_run(run, config, data.organs, facts)
        hours = Hours.of(config, until)
        for stage in stages:
            manifests[stage.name] = _one(
                run, stage, config, data, events, device, manifests, reuse, hours
            )
            if stage.name == until:
                break
    return manifests


def _one(
    run: Path,
    stage: Stage,
    config: RunConfig,
    data: Input,
    events: Events,
    device: str,
    manifests: dict[str, Manifest],
    reuse: Sequence[Path],
    hours: Hours | None,
) -> Manifest:
    inputs = _inputs(stage, manifests, data, run)
    seed = stage_seed(config.seed, stage.name)
    mark = fingerprint(stage, config, seed, inputs)
    ready = is_done(run / stage.name, mark) or borrow(stage.name, run, reuse, mark)
    if ready:
        events.stage(stage.name, "unchanged", str(ready.summary.get("text", "")))
        return ready
    events.stage(stage.name, "start", "")
    log.info("stage %s starts", stage.name)
    context = Context(
        stage.name, run, config, data.organs, data.source, data.target, seed, device, events, hours
    )
    manifest = execute(stage, context, inputs)
    text = str(manifest.summary.get("text", ""))
    log.info("stage %s done in %.1f s: %s", stage.name, manifest.seconds, text)
    events.stage(stage.name, "done", f"{text} ({manifest.seconds:.0f} s)")
    return manifest


def borrow(stage: str, run: Path, others: Sequence[Path], mark: str) -> Manifest | None:
    """Take a finished stage of this fingerprint from another run; None where none has it.

    Files are linked where the disk allows it, else copied: a stage's files are only ever replaced
    whole, so that no run can change what another one holds.
    """
    for other in others:
        manifest = is_done(other / stage, mark)
        if manifest is None or other.resolve() == run.resolve():
            continue
        with atomic_folder(run / stage) as part:
            shutil.copytree(other / stage, part, dirs_exist_ok=True, copy_function=_link)
        log.info("stage %s is taken from another run", stage)
        return manifest
    return None


def _link(old: str, new: str) -> None:
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)


def _inputs(stage: Stage, manifests: dict[str, Manifest], data: Input, run: Path) -> dict[str, str]:
    if stage.after:
        return {name: manifests[name].output_hash for name in stage.after}
    return {
        "source": hash_cohort(data.source, run / "hashes.json"),
        "target": hash_cohort(data.target, run / "hashes.json"),
        "organs": hash_value(data.organs.to_json()),
    }


def hash_cohort(cohort: Cohort, cache: Path) -> str:
    """Hash of a cohort's table and the bytes of its files.

    Hashes are remembered by path, size and modification time, so that thousands of unchanged
    files are not read again. The cache is written only where the run folder exists.
    """
    known: dict[str, str] = {}
    if cache.exists():
        try:
            known = dict(json.loads(cache.read_text(encoding="utf-8")))
        except (ValueError, TypeError):  # damaged: made again
            known = {}
    before = dict(known)
    rows = []
    for case in cohort:
        files = [_remembered(path, known) for path in case.files]
        row = [
            case.id,
            case.patient,
            case.modality,
            case.sequence,
            case.domain,
            sorted(case.annotated or ()),
            files,
        ]
        if case.numbering is not None:
            row.append(sorted((value, name or "") for value, name in case.numbering.values.items()))
        rows.append(row)
    if known != before and cache.parent.is_dir():
        write_json(cache, known)
    return hash_value(rows)


def _remembered(path: Path, known: dict[str, str]) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"
    # the path itself may name a patient: only its hash is kept
    key = hash_value([str(path.resolve()), status.st_size, status.st_mtime_ns])
    if key not in known:
        try:
            known[key] = hash_file(path)
        except OSError:  # prepare names the case and goes on with the others
            return "unreadable"
    return known[key]


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Own a run folder; a second run in the same folder is told so and stops."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError("the run folder is a file", path=run, fix="name another folder") from error
    except OSError as error:
        raise _not_writable(run, error) from error
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except PermissionError as error:
        raise _not_writable(run, error) from error
    except Timeout as error:
        raise UserError(
            "this run folder is in use by another run",
            path=run,
            fix="wait for it to end ('labelferry status' shows how far it is), or name another",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _not_writable(run: Path, error: OSError) -> UserError:
    return UserError(
        "the run folder cannot be written to",
        path=run,
        seen=error.strerror,
        fix="name a folder of your own",
    )


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "where": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append the package's log to a JSON-lines file; a fault of ours leaves its traceback there."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_JsonLines())
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except UserError as error:
        log.error("%s", error.without_path())
        raise
    except Exception:
        log.exception("a fault of labelferry")
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
