"""Run a folder of hard cases through the command line, and say which end as they should.

    python tests/hard_cases.py FOLDER [--only ID …] [--stage check …] [--cache DIR] [--verbose]

Every subfolder of FOLDER holds ``data/`` (the input), ``case.json`` (stages, what is accepted,
checks, truth) and maybe ``reference/`` (clean versions, for scoring alone). Each stage of a case is
one or more commands on a copy of its data, in processes of their own: check = ``data check``,
convert = ``data import``, train = ``adapt --until refine`` with tiny networks, predict =
``predict`` with a tiny model that is trained once and kept, evaluate = ``evaluate``. Then the
checks of the case are evaluated on what the commands printed and wrote.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "hard"))

import bank_volumes  # noqa: F401  (more checks)
from bank_checks import evaluate_checks
from bank_product import RUNNERS, STAGES, Scene, call, want
from bank_stories import STORIES


def run_stage(scene: Scene, case: Mapping[str, Any], stage: str, verbose: bool) -> list[str]:
    work = Path(tempfile.mkdtemp(prefix=f"{case['id']}-{stage}-", dir=scene.work))
    data = work / "input" / "data"
    shutil.copytree(scene.folder / case["id"] / "data", data, symlinks=True)
    for check_row in case["checks"]:
        story = STORIES.get((check_row["op"], stage))
        if story:
            try:
                return story(scene, case, data, work)
            except (OSError, ValueError, KeyError) as error:
                return [f"{type(error).__name__}: {error}"]
    result = RUNNERS[stage](scene, case, data, work)
    if verbose:
        print(result.text)
    if "Unknown command" in result.text:
        return ["there is no such command: " + result.text.strip().splitlines()[0]]
    faults = evaluate_checks(scene, case, result, [{"op": "no_traceback"}, *case["checks"]])
    accepted = case["accept"]
    if result.code not in (0, 2, 3):
        faults.append(f"exit code {result.code}: {result.text[-500:]}")
    elif result.code and not {"error"} & set(accepted):
        tail = [line for line in result.text.splitlines() if ":" in line][-3:]
        faults.append(f"exit code {result.code}: {' | '.join(tail)}")
    if case["id"].startswith("control") and "warning:" in result.text:
        faults.append("a warning about good data: " + result.text[result.text.index("warning:") :])
    return list(dict.fromkeys(faults))


def control_of(folder: Path, cache: Path) -> Path:
    """A good case of the folder, else a phantom."""
    own = folder / "control_good" / "data"
    if own.is_dir():
        return own
    made = cache / "phantom"
    if not made.exists():
        done = call("phantom", made, "--ct", 2, "--mri", 2, "--test", 0)
        want(done.code == 0, f"no phantom: {done.text}")
        (made / "source").rename(made / "ct")
        (made / "target").rename(made / "mr")
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=(), help="ids, or the beginnings of ids")
    parser.add_argument("--stage", nargs="*", choices=STAGES, default=STAGES)
    parser.add_argument("--cache", type=Path, help="where the tiny model is kept between calls")
    parser.add_argument("--keep", type=Path, help="keep all outputs in this folder")
    parser.add_argument("--verbose", action="store_true", help="print what the commands said")
    options = parser.parse_args()
    cache = options.cache or Path(tempfile.gettempdir()) / "labelferry-hard-cases"
    cache.mkdir(parents=True, exist_ok=True)
    cases = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(options.folder.glob("*/case.json"))
    ]
    if options.only:
        cases = [case for case in cases if case["id"].startswith(tuple(options.only))]
    if not cases:
        parser.error(f"no case in {options.folder}")
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="hard-cases-") as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        folder = options.folder.resolve()
        scene = Scene(folder, work, cache, control_of(folder, cache))
        for case in cases:
            for stage in (stage for stage in case["stage"] if stage in options.stage):
                started = time.monotonic()
                faults = run_stage(scene, case, stage, options.verbose)
                seconds = time.monotonic() - started
                mark = "passed" if not faults else "FAILED"
                print(f"{mark}  {case['id']:<38} {stage:<9} {seconds:5.1f} s", flush=True)
                for fault in faults:
                    print(f"        {fault}", flush=True)
                passed, failed = passed + (not faults), failed + bool(faults)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
