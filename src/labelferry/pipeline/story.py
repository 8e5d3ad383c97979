"""Where the pseudo-label of each organ of one case comes from, and why it was kept or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.files import read_json
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.runfile import read_manifests, read_run


@dataclass(frozen=True)
class OrganStory:
    """One organ of a case."""

    organ: str
    origin: str
    """``own``: the teacher's label; ``carried``: another case's; ``-`` while match has not run."""
    reason: str
    """Why that one."""
    z: float | None
    """Implausibility of the label by the prior; None where it is empty or not judged yet."""
    u: float | None
    """Instability over the rounds (eq. 7); None where it is infinite or not measured."""
    kept: bool | None
    """Whether the next network learns from it; None while refine has not run."""
    dropped: str
    """Why it was not kept."""


@dataclass(frozen=True)
class CaseStory:
    """One target case of a run."""

    case: str
    patient: str
    domain: str
    facts: tuple[str, ...]
    """What holds for the case as a whole: notes on the image, carried from whom and how."""
    organs: tuple[OrganStory, ...]


def explain(run: Path | str, case: str) -> CaseStory:
    """Tell the story of a target case, as far as the run has come.

    Raises ``UserError`` for a folder that is no run, a run whose ``prepare`` is not done, and a
    case that the run does not hold (with the nearest names).
    """
    run = Path(run)
    _, organs = read_run(run)
    manifests = read_manifests(run)
    if "prepare" not in manifests:
        raise UserError(
            "the run has prepared no case yet", path=run, fix="give its 'labelferry adapt' again"
        )
    found = _find(run, case, manifests)
    carried = _optional(run / "match" / "provenance" / f"{case}.json")
    selection = _optional(run / "refine" / "selection.json")
    judged = _optional(run / ("match" if carried else "teach") / "plausibility.json")
    scores = judged.get("cases", {}).get(case, {}).get("organs", {})
    unstable = selection.get("instability", {}).get(case, {}).get("organs", {})
    decision = next((d for d in selection.get("cases", []) if d["case"] == case), None)
    stories = []
    for organ in organs:
        key = str(organ.id)
        choice = carried.get("organs", {}).get(key)
        origin, reason = _origin(carried, choice)
        score = scores.get(key, {})
        whole = (decision or {}).get("reasons", {})
        stories.append(
            OrganStory(
                organ.name,
                origin,
                reason,
                score.get("z") if score.get("present", True) else None,
                unstable.get(key),
                None if decision is None else organ.id in decision["organs"],
                whole.get(key) or whole.get("case", ""),
            )
        )
    notes = manifests["prepare"].summary.get("notes", {}).get(case, [])
    return CaseStory(
        case, found.patient, found.domain, (*notes, *_carrying(carried)), tuple(stories)
    )


def _find(run: Path, case: str, manifests: Mapping[str, Manifest]) -> PreparedCase:
    targets = {found.id: found for found in prepared_cases(run / "prepare", "target")}
    if case in targets:
        return targets[case]
    for stage, manifest in manifests.items():
        if case in manifest.failed:
            raise UserError(f"this case failed in {stage}", case=case, seen=manifest.failed[case])
    near = get_close_matches(case, targets, n=3, cutoff=0.4) or sorted(targets)[:3]
    raise UserError("no such MRI in this run", path=run, seen=case, allowed=", ".join(near) + ", …")


def _optional(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(path, schema=1) if path.exists() else {}
    return found


def _origin(carried: Mapping[str, Any], choice: Mapping[str, Any] | None) -> tuple[str, str]:
    if not carried:
        return "-", "match has not run"
    if carried["from"] is None:
        return "own", carried["reason"]
    if choice is None:
        return "own", "neither label holds it"
    return choice["source"], choice["reason"]


def _carrying(carried: Mapping[str, Any]) -> tuple[str, ...]:
    """Whose labels were laid over this case, and how well that went."""
    if not carried or carried["from"] is None:
        return ()
    transform, z = carried["transform"], carried["plausibility"]
    tried = ", ".join(f"{c['id']} {c['agreement']:.2f}" for c in carried["candidates"])
    others = [case for case in carried.get("fused", ()) if case != carried["from"]]
    fused = f", fused with {', '.join(others)}" if others else ""
    alike = ", ".join(f"{name} {value:.2f}" for name, value in carried.get("likeness", {}).items())
    return (
        f"matched with {carried['from']} (by {carried['how']}){fused}",
        *([f"edges in the same places: {alike}"] if alike else []),
        f"agreement in anatomy space: {tried}",
        f"registration: {transform['reason']}"
        + ("" if transform["ok"] else "; its start was kept"),
        f"implausibility of the case: own {_number(z['own'])}, carried {_number(z['carried'])}, "
        f"result {_number(z['result'])}",
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
