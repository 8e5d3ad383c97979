"""How surely images of one patient are known without the patient's id.

``python -m benchmarks.alike``: phantom patients, each under every sequence, lie in the scanner with
the middle of the picture at one place, so that the picture's place tells nothing. Each image lacks
up to 30 mm at its top and at its end, and the patient has moved between two images by a random
shift of ``--motion`` mm standard deviation along each axis. ``same``: the least and the median
likeness of images of one patient; ``others``: the median and the greatest of two patients. Recall
is the share of patients that are paired, precision the share of pairs that are one patient.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import prepare
from labelferry.match.case import Descriptor
from labelferry.match.config import MatchConfig
from labelferry.match.likeness import find_alike, likeness, sketch
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.contrast import MR_SEQUENCES
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.render import render_mr
from labelferry.volume import Box, Grid, Volume, crop

_MOST_CUT_SLICES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--motion", type=float, nargs="+", default=(0.0, 2.0, 4.0), help="mm")
    parser.add_argument("--least", type=float, default=MatchConfig().least_likeness)
    given = parser.parse_args()
    seen = {
        (number, sequence): scan((given.seed, number), sequence)
        for number in range(given.patients)
        for sequence in MR_SEQUENCES
    }
    print(
        f"{'pair':<8}{'motion':>7}{'same':>14}{'others':>14}{'paired':>8}{'recall':>8}"
        f"{'precision':>11}"
    )
    for motion in given.motion:
        rng = np.random.default_rng(given.seed)
        sketches = {key: _moved(volume, rng.normal(0, motion, 3)) for key, volume in seen.items()}
        for pair in combinations(MR_SEQUENCES, 2):
            _tell(pair, motion, sketches, given.least)


def scan(seed: tuple[int, int], sequence: str) -> tuple[Volume, Volume]:
    """Anatomy space and body of one sequence of one patient."""
    subject = draw_subject(np.random.default_rng(seed), PhantomGrid())
    rng = np.random.default_rng((*seed, MR_SEQUENCES.index(sequence)))
    image = render_mr(rng, subject, sequence).image
    shape = image.grid.shape
    low, high = (int(n) for n in rng.integers(0, _MOST_CUT_SLICES + 1, 2))
    middle = image.grid.to_world((np.array(shape) - 1) / 2)
    box = Box((0, 0, low), (shape[0], shape[1], shape[2] - high))
    ready = prepare(crop(image, box), "MR", AnatomyConfig())
    return _placed(ready.anatomy, -middle), _placed(ready.body, -middle)


def _placed(volume: Volume, shift: np.ndarray) -> Volume:
    affine = np.array(volume.grid.affine)
    affine[:3, 3] += shift
    return Volume(volume.array, Grid(volume.grid.shape, affine))


def _moved(seen: tuple[Volume, Volume], shift: np.ndarray) -> Volume:
    anatomy, body = (_placed(volume, shift) for volume in seen)
    return sketch(anatomy, body)


def _tell(
    pair: tuple[str, str], motion: float, sketches: dict[tuple[int, str], Volume], least: float
) -> None:
    anchor, follower = pair
    patients = sorted({number for number, _ in sketches})
    values = np.array(
        [[likeness(sketches[a, anchor], sketches[f, follower]) for a in patients] for f in patients]
    )
    same, others = np.diag(values), values[~np.eye(len(patients), dtype=bool)]
    sides = [[_unknown(number, sequence) for number in patients] for sequence in (follower, anchor)]
    found = find_alike(*sides, lambda case: sketches[_key(case)], least)
    pairs = [(_key(f)[0], _key(a)[0]) for f, row in found.items() for a in row]
    true = sum(f == a for f, a in pairs)
    precision = f"{true / len(pairs):.2f}" if pairs else "-"
    print(
        f"{'-'.join(pair):<8}{motion:7.1f}{same.min():7.2f}{np.median(same):7.2f}"
        f"{np.median(others):7.2f}{others.max():7.2f}{len(pairs):8}{true / len(patients):8.2f}"
        f"{precision:>11}",
        flush=True,
    )


def _unknown(number: int, sequence: str) -> Descriptor:
    """A case whose patient nothing tells."""
    name = f"{number}:{sequence}"
    return Descriptor(name, name, sequence, 0.0, (0.0, 0.0, 0.0), ())


def _key(case: str) -> tuple[int, str]:
    number, sequence = case.split(":")
    return int(number), sequence


if __name__ == "__main__":
    main()
