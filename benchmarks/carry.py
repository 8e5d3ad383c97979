"""How well true labels are carried to another sequence: the ceiling of matching, without a network.

``python -m benchmarks.carry``: phantom patients lend their T1 scan with its true labels to the T2
and DWI scans of others (by eq. 5) and of themselves. Each row is a way to carry; a figure is the
mean Dice score over organs and followers, in per cent. ``--set candidates=3`` changes every row.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import prepare, prepare_labels
from labelferry.evaluate.overlap import dice
from labelferry.match.carry import carry_to
from labelferry.match.case import Descriptor, TargetCase, describe
from labelferry.match.config import MatchConfig
from labelferry.match.neighbours import match_cases
from labelferry.organs import FLARE
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.contrast import MR_SEQUENCES, MrSequence
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.render import render_mr
from labelferry.prior.learn import learn_prior

ROWS: Mapping[str, Mapping[str, Any]] = {
    "affine, best": {"deform_iterations": 0, "fuse": "best"},
    "affine, fused": {"deform_iterations": 0, "fuse": "local"},
    "free-form, best": {"fuse": "best"},
    "free-form, fused": {"fuse": "local"},
}
FOLLOWERS: tuple[MrSequence, ...] = ("T2", "DWI")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=5, help="patients")
    parser.add_argument("--anchors", type=int, default=8, help="other patients")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spacing", type=float, nargs=3, default=(3.2, 3.2, 5.0), help="mm")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    changes = {"keep_own": "never", **tomllib.loads("\n".join(given.set))}
    grid = AnatomyConfig(spacing=tuple(given.spacing))

    def seen(number: int, sequence: MrSequence) -> TargetCase:
        return scan((given.seed, number), sequence, grid)

    patients = range(given.followers)
    anchors = [seen(number, "T1") for number in range(1000, 1000 + given.anchors)]
    own = [seen(number, "T1") for number in patients]
    followers = [seen(number, sequence) for sequence in FOLLOWERS for number in patients]
    columns = [f"{who} → {sequence}" for who in ("other", "same patient") for sequence in FOLLOWERS]
    print(f"{'':<18}" + "".join(f"{name:>22}" for name in columns) + f"{'CPU s each':>12}")
    for name, row in ROWS.items():
        config = MatchConfig(**{**row, **changes})
        started = time.process_time()
        scores = [*carried(followers, anchors, config), *carried(followers, own, config)]
        seconds = (time.process_time() - started) / len(scores)
        means = np.array(scores).reshape(len(columns), -1).mean(axis=1)
        print(f"{name:<18}" + "".join(f"{m:22.1f}" for m in means) + f"{seconds:12.1f}", flush=True)


def scan(seed: tuple[int, int], sequence: MrSequence, config: AnatomyConfig) -> TargetCase:
    """One sequence of one patient, with its true labels."""
    subject = draw_subject(np.random.default_rng(seed), PhantomGrid())
    rng = np.random.default_rng((*seed, MR_SEQUENCES.index(sequence)))
    rendering = render_mr(rng, subject, sequence)
    ready = prepare(rendering.image, "MR", config)
    labels = prepare_labels(rendering.labels, ready)
    patient = str(seed[1])
    name = f"{patient}-{sequence}"
    return TargetCase(name, patient, sequence, ready.image, ready.anatomy, ready.body, labels)


def carried(
    followers: Sequence[TargetCase], anchors: Sequence[TargetCase], config: MatchConfig
) -> list[float]:
    """Mean Dice score over organs of each follower's carried labels, in per cent."""
    prior = learn_prior([(anchor.labels, FLARE.ids) for anchor in anchors], FLARE)
    by_id = {anchor.id: anchor for anchor in anchors}
    matches = match_cases(_described(followers), _described(anchors), config)
    scores = []
    for follower, match in zip(followers, matches, strict=True):
        lenders = (by_id[name] for name in match.candidates)
        found = carry_to(follower, lenders, config, prior, how=match.how).labels.array
        true = follower.labels.array
        scores.append(
            100 * float(np.mean([dice(true == k, found == k) for k in follower.labels.held]))
        )
    return scores


def _described(cases: Sequence[TargetCase]) -> list[Descriptor]:
    return [describe(c.id, c.patient, c.domain, c.body, c.labels, FLARE) for c in cases]


if __name__ == "__main__":
    main()
