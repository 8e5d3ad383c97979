"""Benchmarks are run by hand: they must at least start, whatever has been renamed since."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.predictmodels import random_bundle, window_work

from labelferry.segment.config import NetworkConfig
from labelferry.segment.flop import window_flop

ROOT = Path(__file__).parent.parent
NAMES = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_starts(name):
    """Imported in a process of its own: some set threads or limits as they load."""
    code = f"import importlib; assert importlib.import_module('benchmarks.{name}').__doc__"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_clock_of_predictions_finds_all_that_it_times():
    code = (
        "import functools, importlib, sitecustomize as clock\n"
        "for name, parts in clock.PARTS.items():\n"
        "    module = importlib.import_module(name)\n"
        "    for place in parts:\n"
        "        assert callable(functools.reduce(getattr, place.split('.'), module)), place\n"
    )
    path = os.pathsep.join([str(ROOT / "benchmarks" / "clock"), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "CLOCK": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("context", [0, 2])
def test_the_work_of_a_window_is_that_of_its_network(tmp_path, context):
    network = NetworkConfig(dimensions=2, patch=(32, 48), channels=4, context=context)
    random_bundle(tmp_path / "model", (5.0, 3.0, 3.0), network)
    found = window_work(tmp_path / "model")
    assert found.flop == window_flop(network, (5.0, 3.0, 3.0), 1, 14)
    assert (found.voxels, found.classes) == (32 * 48, 14)


def test_there_are_benchmarks():
    assert {"translate", "evaluate", "audit"} <= set(NAMES)
