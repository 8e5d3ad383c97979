"""How surely the audit finds known faults in a fake volume: ROC AUC and share found.

``python -m benchmarks.audit``: phantom CT at 3.2 x 3.2 x 5 mm under random contrasts; clean and
faulty fakes are of different subjects and are judged together, as one run.
``--run RUN`` puts the faults into the fakes of a run, each judged among the clean others.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelferry.io.nifti import read_image, read_labels
from labelferry.organs import FLARE, OrganSet
from labelferry.pipeline.prepared import prepared_cases
from labelferry.pipeline.runfile import read_run
from labelferry.pipeline.translations import Translation, find_translations
from labelferry.translate.audit import Measures, audit
from labelferry.translate.config import AuditConfig
from labelferry.translate.explain import Scene
from labelferry.translate.faults import Fault, Space, auc, deformed, erased, trial_scene
from labelferry.translate.verdict import judge

DEFORMED_MM = (3.0, 5.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="clean fakes, and of each fault")
    parser.add_argument("--space", choices=("plain", "anatomy"), action="append")
    parser.add_argument("--mm", type=float, action="append", help="deformations, in mm")
    parser.add_argument("--run", type=Path, help="a run folder with fakes")
    given = parser.parse_args()
    print(f"{'fakes':<10} {'fault':<12} {'mm':>4} {'n':>4} {'AUC':>6} {'found':>6} {'false':>6}")
    faults: list[tuple[Fault, float]] = [("erased", 0.0)]
    faults += [("deformed", mm) for mm in given.mm or DEFORMED_MM]
    if given.run:
        for translation in find_translations(given.run / "translate"):
            if translation.domain is not None:
                print(translation.domain)
            _of_run(given.run, translation, faults)
        return
    spaces: Sequence[Space] = given.space or ("anatomy", "plain")
    for space in spaces:
        clean = {f"c{n}": audit(trial_scene((1, n), space)).measures for n in range(given.count)}
        for number, (fault, mm) in enumerate(faults, start=2):
            faulty = {
                f"f{n}": audit(trial_scene((number, n), space, fault, mm)).measures
                for n in range(given.count)
            }
            verdicts = judge({**clean, **faulty}, AuditConfig(), FLARE)
            scores = [[verdicts[c].severity for c in part] for part in (clean, faulty)]
            _row(space, fault, mm, *scores)


def _of_run(run: Path, translation: Translation, faults: Sequence[tuple[Fault, float]]) -> None:
    config, organs = read_run(run)
    space = config.translate.space
    clean: dict[str, Measures] = {}
    scenes: dict[str, Scene] = {}
    for case in prepared_cases(run / "prepare", "source"):
        made = case.read()
        fake = read_image(translation.fake(case.id)).volume
        scenes[case.id] = Scene(
            made.image.array,
            made.anatomy.array,
            np.asarray(fake.array, np.float32),
            made.body.array,
            read_labels(case.file("label"), organs).array,
            fake.grid.spacing,
            space == "anatomy",
        )
        clean[case.id] = audit(scenes[case.id]).measures
    plain = [v.severity for v in judge(clean, AuditConfig(), organs).values()]
    for number, (fault, mm) in enumerate(faults):
        found = []
        for n, (case_id, scene) in enumerate(scenes.items()):
            rng = np.random.default_rng((number, n))
            fake = erased(scene, rng) if fault == "erased" else deformed(scene, rng, mm)
            measures = audit(replace(scene, fake=fake)).measures
            found.append(_among(clean, case_id, measures, organs))
        _row(space, fault, mm, plain, found)


def _among(clean: Mapping[str, Measures], case: str, measures: Measures, organs: OrganSet) -> float:
    return judge({**clean, case: measures}, AuditConfig(), organs)[case].severity


def _row(
    space: str, fault: str, mm: float, clean: Sequence[float], faulty: Sequence[float]
) -> None:
    one, two = np.array(clean), np.array(faulty)
    shown = f"{mm:4.0f}" if mm else "   -"
    print(
        f"{space:<10} {fault:<12} {shown} {len(two):4} {auc(one, two):6.3f} "
        f"{(two > 1).mean():6.2f} {(one > 1).mean():6.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
