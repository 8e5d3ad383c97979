"""How pure are groups of MRI that were made by looks alone, and how many are there?

``python -m benchmarks.looks``: phantom cohorts of several seeds (6 x 6 x 8 mm), their sequences
hidden. With ``--cohort FOLDER`` a cohort of yours whose sequences are known. Purity is the share of
images whose sequence is the commonest of their group. The spreads of ``labelferry.anatomy.looks``
were measured on seed 7.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from labelferry.anatomy.groups import with_groups
from labelferry.cases import UNKNOWN_SEQUENCE, Cohort
from labelferry.io.discover import discover
from labelferry.organs import FLARE
from labelferry.phantom.cohort import write_cohort
from labelferry.phantom.frame import PhantomGrid

SEEDS = ((7, 36), (11, 14), (21, 24), (5, 16))
"""Seed and number of patients."""


def measure(name: str, cohort: Cohort) -> None:
    hidden = [replace(c, sequence=UNKNOWN_SEQUENCE, domain=UNKNOWN_SEQUENCE) for c in cohort]
    found, _ = with_groups(Cohort(tuple(hidden)))
    pairs = Counter((a.domain, b.sequence) for a, b in zip(found, cohort, strict=True))
    groups = sorted(found.domains, key=lambda group: (len(group), group))
    pure = sum(max(n for (group, _), n in pairs.items() if group == g) for g in groups)
    print(f"{name}: {len(cohort)} images, {len(groups)} groups, purity {pure / len(cohort):.2f}")
    for group in groups:
        held = ", ".join(f"{n} {what}" for (g, what), n in sorted(pairs.items()) if g == group)
        print(f"  {group}: {held}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, help="images whose sequences are known")
    options = parser.parse_args()
    if options.cohort:
        measure(options.cohort.name, discover(options.cohort, "target", FLARE).cohort)
        return
    for seed, patients in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "cohort"
            grid = PhantomGrid.of_spacing((6, 6, 8))
            write_cohort(out, ct=1, mri=patients, test=0, seed=seed, grid=grid)
            measure(f"seed {seed}", discover(out / "target", "target", FLARE).cohort)


if __name__ == "__main__":
    main()
