"""Cases that are a story: killed, resumed, two at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bank_checks import evaluate_checks
from bank_product import (
    Result,
    Scene,
    call,
    command,
    environment,
    files_of,
    load,
    tiny,
    train,
)

_EPOCHS = 20


def losses(run: Path) -> list[dict[str, Any]]:
    path = run / "teach" / "losses.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # a line may be half written
    return [json.loads(line) for line in whole.splitlines()]


def kill_and_resume(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> list[str]:
    """Killed within the teacher's epochs; then as if nothing had happened."""
    source, target = scene.source(data), scene.target(data)
    run = work / "run"
    words = (
        "adapt",
        run,
        "--source",
        source,
        "--target",
        target,
        "--until",
        "teach",
        *tiny(_EPOCHS),
    )
    process = subprocess.Popen(
        command(*words),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    while process.poll() is None and len(losses(run)) < 3:
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = losses(run)
    log = (run / "log.jsonl").read_text(encoding="utf-8")
    resumed, again = call(*words), call(*words)
    whole = call(*(str(w).replace(str(run), str(work / "whole")) for w in words))
    faults = []
    after, unbroken = losses(run), losses(work / "whole")
    numbers = [row["step"] for row in after]
    checks = (
        (resumed.code == again.code == whole.code == 0, "a run failed: " + resumed.text[-500:]),
        (3 <= len(before) < _EPOCHS, f"killed after {len(before)} epochs"),
        (numbers == [row["step"] for row in unbroken], f"steps {numbers}"),
        (after[: len(before) - 1] == before[: len(before) - 1], "the log was overwritten"),
        ([r["loss"] for r in after] == [r["loss"] for r in unbroken], "other losses than unbroken"),
        ((run / "log.jsonl").read_text(encoding="utf-8").startswith(log), "log.jsonl is cut"),
        ("teach      = unchanged" in again.text, "a finished run was trained again"),
    )
    faults += [text for holds, text in checks if not holds]
    result = Result("train", data, [resumed], out=run)
    return faults + evaluate_checks(scene, case, result, [{"op": "inputs_unchanged"}])


def stale_or_cut_cache(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> list[str]:
    """A prepared file is cut, then a label corrected; each is seen by the next run."""
    source, target = scene.source(data), scene.target(data)
    run = work / "run"
    first = train(run, source, target, until="teach")
    cut = run / "prepare" / "source" / "ct_0" / "image.nii.gz"
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    second = train(run, source, target, until="teach")
    rebuilt = cut.read_bytes() == whole
    label = cut.with_name("label.nii.gz")
    had = bool((load(label)[0] == 3).any())
    shutil.copy(
        scene.folder / case["id"] / "reference" / "corrected_label" / "ct_0.nii.gz",
        data / "ct" / "labels" / "ct_0.nii.gz",
    )
    third = train(run, source, target, until="teach")
    codes = [first.code, second.code, third.code]
    checks = (
        (codes == [0, 0, 0], f"exit codes {codes}"),
        (rebuilt or "ct_0" in second.text, "the cut file is neither rebuilt nor named"),
        (had and not (load(label)[0] == 3).any(), "the corrected label is not used"),
        ("teach      ✓" in third.text, "the teacher was not trained anew"),
    )
    faults = [text for holds, text in checks if not holds]
    about = {**case, "_changed": ["data/ct/labels/ct_0.nii.gz"]}
    result = Result("train", data, [third], out=run)
    return faults + evaluate_checks(scene, about, result, [{"op": "inputs_unchanged"}])


def two_runs(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> list[str]:
    """Two at once, in one folder; then one of two killed, and a third."""
    source, target = scene.source(data), scene.target(data)
    run = work / "run"
    words = ("adapt", run, "--source", source, "--target", target, "--until", "teach", *tiny())
    faults = []
    texts = both(words, words)
    for code, text in texts:
        if code == 0:
            continue
        named = "in use" in text and run.name in text
        if code != 2 or not named or "Traceback" in text:
            faults.append(f"the second run ended with {code}: {text[-300:]}")
    if all(code for code, _ in texts):
        faults.append("neither run came to its end")
    faults += [f"damaged: {path}" for path in damaged(run)]
    victim = subprocess.Popen(
        command(*(str(w).replace(str(run), str(work / "killed")) for w in words)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    while victim.poll() is None and not (work / "killed" / "prepare" / "cases.json").exists():
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    third = call(*(str(w).replace(str(run), str(work / "killed")) for w in words))
    if third.code:
        faults.append(f"locked out after a kill: {third.text[-300:]}")
    for name in sorted(files_of(run / "teach" / "labels")):
        pair = [folder / "teach" / "labels" / name for folder in (run, work / "killed")]
        if not np.array_equal(load(pair[0])[0], load(pair[1])[0]):
            faults.append(f"{name} differs from that of a single run")
    result = Result("train", data, [third], out=run)
    return faults + evaluate_checks(scene, case, result, [{"op": "inputs_unchanged"}])


def two_predictions(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> list[str]:
    model = scene.model()
    words = ("predict", data / "predict", work / "labels", "--model", model)
    faults = [f"exit code {code}: {text[-300:]}" for code, text in both(words, words) if code]
    single = call("predict", data / "predict", work / "single", "--model", model)
    faults += [] if single.code == 0 else [single.text[-300:]]
    faults += [f"damaged: {path}" for path in damaged(work / "labels")]
    names = sorted(files_of(work / "single"))
    if names != sorted(files_of(work / "labels")):
        faults.append("other files than those of a single run")
    for name in names:
        if (work / "single" / name).read_bytes() != (work / "labels" / name).read_bytes():
            faults.append(f"{name} differs from that of a single run")
    result = Result("predict", data, [single], out=work)
    return faults + evaluate_checks(scene, case, result, [{"op": "inputs_unchanged"}])


def both(*commands: tuple[object, ...]) -> list[tuple[int, str]]:
    running = [
        subprocess.Popen(
            command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        for words in commands
    ]
    return [(process.wait(), text) for process in running for text in [process.communicate()[0]]]


def damaged(folder: Path) -> list[str]:
    found = []
    for path in files_of(folder).values():
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.name.endswith(".nii.gz"):
                load(path)
        except Exception as error:
            found.append(f"{path.name}: {type(error).__name__}")
    return found


Story = Callable[[Scene, Mapping[str, Any], Path, Path], list[str]]
STORIES: dict[tuple[str, str], Story] = {
    ("resume_epoch_gap_at_most", "train"): kill_and_resume,
    ("cache_rebuilt", "train"): stale_or_cut_cache,
    ("equal_to_single_run", "train"): two_runs,
    ("equal_to_single_run", "predict"): two_predictions,
}
