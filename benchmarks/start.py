"""What one prediction costs from process start to exit, for several source trees side by side.

``python -m benchmarks.start --model MODEL IMAGE [--source OTHER/src …]``: the trees take turns, so
that a busy machine slows all alike; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import labelferry

COUNT = "import sys; from labelferry.cli import run; run(sys.argv[1:]); print(len(sys.modules))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", type=Path, action="append", default=[], help="other src folder")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    own = Path(labelferry.__file__).parents[1]
    trees = [*(path.resolve() for path in given.source), own]
    with tempfile.TemporaryDirectory() as folder:
        tokens = ["predict", str(given.image), folder, "--model", str(given.model)]
        tokens += ["--device", "cpu"]
        modules = [_loaded(tree, tokens) for tree in trees]  # fills the disk cache as well
        times: list[list[float]] = [[] for _ in trees]
        for _ in range(given.repeats):
            for tree, taken in zip(trees, times, strict=True):
                taken.append(_seconds(tree, tokens))
    first = statistics.median(times[0])
    print(f"{'tree':<40} {'median s':>9} {'least s':>9} {'modules':>9} {'ratio':>7}")
    for tree, taken, count in zip(trees, times, modules, strict=True):
        middle = statistics.median(taken)
        name = str(tree)[-40:]
        print(f"{name:<40} {middle:9.2f} {min(taken):9.2f} {count:9} {first / middle:7.2f}")


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree)}


def _seconds(tree: Path, tokens: list[str]) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "labelferry", *tokens]
    subprocess.run(command, env=_environment(tree), check=True, capture_output=True)
    return time.perf_counter() - start


def _loaded(tree: Path, tokens: list[str]) -> int:
    command = [sys.executable, "-c", COUNT, *tokens]
    done = subprocess.run(
        command, env=_environment(tree), check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
