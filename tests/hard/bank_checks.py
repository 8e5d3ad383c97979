"""The checks that a ``case.json`` may ask for, one function each."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bank_product import Fault, Result, Scene, case_id, files_of, load, usable, want

from labelferry.organs import FLARE

Check = Callable[[Scene, Mapping[str, Any], Result, Mapping[str, Any]], None]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def evaluate_checks(
    scene: Scene, case: Mapping[str, Any], result: Result, checks: list[Mapping[str, Any]]
) -> list[str]:
    """What does not hold, in words."""
    faults = []
    for row in checks:
        known = CHECKS.get(row["op"])
        try:
            want(known is not None, "this check is not known")
            assert known is not None
            known(scene, case, result, row)
        except Fault as error:
            faults.append(f"{row['op']}: {error}")
        except (KeyError, OSError, ValueError, IndexError) as error:
            faults.append(f"{row['op']}: {type(error).__name__}: {error}")
    return faults


def said(result: Result, name: str, words: list[str]) -> bool:
    """Whether one line names the file and one of the words, as an error or at least a warning."""
    whole = re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w)")
    marks = ("error:", "refused:", "failed:", "left out:", "missing:", "extra:", "warning:")
    for line in result.text.splitlines():
        text = line.strip()
        if text.startswith(marks) and whole.search(text):
            rest = whole.sub("", text.removeprefix(text.split(":")[0])).lower()
            if any(word.lower() in rest for word in words):
                return True
    return False


@check
def issue_reported(scene, case, result, row):
    name = Path(row["file"]).name if row["file"].count(".") else row["file"]
    is_file = row["file"].count(".") > 0
    if is_file and name not in result.inputs:
        return  # this stage never sees the file (a label, for predict)
    found = said(result, name, row["message_has_any"])
    want(found, f"no line names {name} with one of {row['message_has_any']}")
    if row["level"] == "error":
        want(result.code != 0, f"{name} is reported, but the exit code is 0")


@check
def others_complete(scene, case, result, row):
    if result.stage == "evaluate":
        want("mean" in result.report, "no scores were written")
    have = set(usable(result))
    wanted = [name for name in row["cases"] if any(case_id(n) == name for n in result.inputs)]
    if result.stage == "convert":
        wanted = row["cases"]
    lost = sorted(set(wanted) - have)
    want(not lost, f"not complete: {', '.join(lost)}")
    if result.stage == "train":
        want((result.out / "refine" / "manifest.json").exists(), "the run did not reach its end")
    for name in wanted if result.stage == "predict" else ():
        (path,) = {p for n, p in result.labels.items() if case_id(n) == name}
        load(path)


@check
def loss_finite(scene, case, result, row):
    if result.stage != "train":
        return
    rows = [
        json.loads(line)
        for path in sorted(result.out.rglob("losses.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    want(bool(rows), "no loss was written")
    values = [v for r in rows for k, v in r.items() if isinstance(v, float)]
    want(bool(values) and all(math.isfinite(v) for v in values), "a loss is not finite")


@check
def n_classes(scene, case, result, row):
    if result.stage == "train":
        from labelferry.segment.bundle import read_bundle

        found = read_bundle(result.out / "refine" / "model")[0].classes
        want(found == row["n"], f"{found} classes")


@check
def checkpoint_written(scene, case, result, row):
    model = result.out / "refine" / "model" / "weights.safetensors"
    want(model.exists() and model.stat().st_size > 0, "no weights were written")


@check
def n_cases(scene, case, result, row):
    if result.stage in ("check", "train"):
        names = {case_id(name) for name in files_of(result.folder / "ct" / "images")}
        found = [name for name in usable(result) if name in names]
    else:
        found = usable(result)
    want(len(found) == row["n"], f"{len(found)} cases instead of {row['n']}: {found}")


@check
def output_names_equal(scene, case, result, row):
    found = set(usable(result))
    if result.stage == "predict":
        want(found == set(row["names"]), f"outputs {sorted(found)}")
    else:
        want(set(row["names"]) <= found, f"cases {sorted(found)}")


@check
def each_works_or_is_named(scene, case, result, row):
    have = set(usable(result))
    for file in row["files"]:
        named = re.search(rf"(?<![\w.]){re.escape(file)}(?!\w)", result.text)
        want(case_id(file) in have or named is not None, f"{file} is skipped in silence")


@check
def message_shorter_than(scene, case, result, row):
    longest = max(map(len, result.text.splitlines()), default=0)
    want(longest < row["chars"], f"a line of {longest} characters")


@check
def no_traceback(scene, case, result, row):
    want("Traceback" not in result.text, "a traceback was shown")
    want("fault of labelferry" not in result.text, "a fault of the product")


@check
def reported_before_training(scene, case, result, row):
    if result.stage != "train":
        return
    lines = result.text.splitlines()
    marks = ("warning:", "error:", "left out:")
    first = next((n for n, line in enumerate(lines) if line.startswith(marks)), None)
    want(first is not None, "nothing is reported")
    started = [n for n, line in enumerate(lines) if line.startswith(("translate", "teach"))]
    want(not started or first < started[0], "reported after the training had begun")


@check
def if_works(scene, case, result, row):
    if result.code == 0:
        faults = evaluate_checks(scene, case, result, row["checks"])
        want(not faults, "; ".join(faults))


@check
def if_error(scene, case, result, row):
    if result.code != 0:
        faults = evaluate_checks(scene, case, result, row["checks"])
        want(not faults, "; ".join(faults))


@check
def metric(scene, case, result, row):
    if result.stage != "evaluate":
        return
    name = row["metric"].lower()
    scores = {r["case"]: r["organs"] for r in result.report["cases"]}[row["case"]]
    if row["label"] == "mean":
        values = [s[name] for s in scores.values() if s[name] is not None]
        found = sum(values) / len(values)
        whole = result.report["mean"]["all"][name]
        want(whole is not None and abs(whole - row["value"]) <= row["tol"], f"overall {whole}")
    else:
        organ = FLARE[int(row["label"])].name
        found = scores.get(organ, {}).get(name)
    if found is None:
        want(bool(row.get("accept_nan")), f"{row['label']} has no {row['metric']}")
        return
    want(math.isfinite(found), "not finite")
    want(abs(found - row["value"]) <= row["tol"], f"{row['label']}: {found:.4f}")


@check
def mean_not_over_two_silently(scene, case, result, row):
    want(result.report["n_cases"] == 3, f"{result.report['n_cases']} cases")
    want(result.report["missing"] == ["b"], f"missing: {result.report['missing']}")
    mean = result.report["mean"]["all"]["dsc"]
    want(abs(mean - 2 / 3) < 1e-3, f"mean {mean}")


@check
def inputs_unchanged(scene, case, result, row):
    allowed = set(case.get("_changed", ()))
    for name, about in case["files"].items():
        path = result.folder.parent / name
        if not name.startswith("data/") or name in allowed:
            continue
        if "symlink" in about:
            want(path.is_symlink() and str(path.readlink()) == about["symlink"], f"{name} changed")
        else:
            want(path.is_file(), f"{name} is gone")
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            want(content == about["sha256"], f"{name} changed")
    known = {n for n in case["files"] if n.startswith("data/")}
    now = {
        p.relative_to(result.folder.parent).as_posix()
        for p in result.folder.rglob("*")
        if p.is_file() or p.is_symlink()
    }
    want(not now - known, f"new files in the input: {sorted(now - known)[:5]}")
