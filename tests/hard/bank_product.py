"""How a hard case is given to the product: its commands, and what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

STAGES = ("check", "convert", "train", "predict", "evaluate")
SPACING = 5.0
"""The cases lie on a grid of 5 mm: on a working grid of the same size no voxel is interpolated."""

NETWORK = "{dimensions=2, patch=[16, 32], channels=4, max_channels=16, downsamplings=2, context=0}"
TRAIN = (
    "{epochs=EPOCHS, iterations_per_epoch=2, batch=2, optimizer='adamw', learning_rate=0.003, "
    "deep_supervision=false, batch_dice=true, dice_smooth=1.0, checkpoint_seconds=1e-9}"
)


def tiny(epochs: int = 2) -> list[str]:
    """Arguments that make a run of the chain take seconds."""
    train = TRAIN.replace("EPOCHS", str(epochs))
    values = (
        *("threads=1", "workers=1", f"prepare.spacing=[{SPACING}, {SPACING}, {SPACING}]"),
        *("translate.iterations=4", "translate.checkpoint_every=2", "translate.channels=4"),
        *("translate.blocks=1", "translate.discriminator_channels=4", "translate.batch=2"),
        "translate.crop=[32, 16]",
        "translate.audit.enabled=false",  # it says, rightly, that four steps make no MRI
        *(f"{stage}.network={NETWORK}" for stage in ("teach", "refine")),
        *(f"{s}={train}" for s in ("teach.train", "refine.train", "refine.later")),
        *("refine.select.prior_filter=false", "match.iterations=3", "match.candidates=2"),
        "match.anchors=[]",
    )
    return ["--size", "demo", *(word for value in values for word in ("--set", value))]


class Fault(Exception):  # noqa: N818
    """A check that does not hold, in words."""


def want(holds: bool, text: str) -> None:
    if not holds:
        raise Fault(text)


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    text: str
    """Everything that it printed."""
    seconds: float


def call(*words: object, **more: Any) -> Done:
    """Run the product."""
    started = time.monotonic()
    done = subprocess.run(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=environment(),
        timeout=900,
        **more,
    )
    return Done(done.returncode, done.stdout, time.monotonic() - started)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "labelferry", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass
class Result:
    """What the commands of one stage left behind."""

    stage: str
    folder: Path
    """The copy of the case's data."""
    commands: list[Done] = field(default_factory=list)
    out: Path = Path()
    report: dict[str, Any] = field(default_factory=dict)
    """The JSON that the commands wrote: data check, evaluate."""
    inputs: dict[str, Path] = field(default_factory=dict)
    """Files that the stage was given, by name."""
    labels: dict[str, Path] = field(default_factory=dict)
    """Label files that predict wrote, by the input's name."""

    @property
    def text(self) -> str:
        return "\n".join(done.text for done in self.commands)

    @property
    def code(self) -> int:
        return max(done.code for done in self.commands)


@dataclass(frozen=True)
class Scene:
    """Where everything is, and the companions that a stage needs beside its case."""

    folder: Path
    work: Path
    cache: Path
    control: Path
    """A good case: its CT and MRI stand in where a case brings only one of them."""

    def source(self, data: Path) -> Path:
        own = data / "ct"
        return own if (own / "labels").is_dir() else self.control / "ct"

    def target(self, data: Path) -> Path:
        own = data / "mr"
        return own if own.is_dir() else self.control / "mr"

    def model(self) -> Path:
        """The tiny model, trained once."""
        run = self.cache / "model-run"
        if not (run / "refine" / "manifest.json").exists():
            source, target = self.control / "ct", self.control / "mr"
            done = call(
                *("adapt", run, "--source", source, "--target", target, "--until", "refine"),
                *tiny(),
            )
            want(done.code == 0, f"the tiny model cannot be trained: {done.text[-2000:]}")
        return run


def run_check(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> Result:
    result = Result("check", data, inputs=files_of(data))
    paths = [p for p in (data / "ct", data / "mr", data / "predict") if p.is_dir()]
    report = work / "check.json"
    result.commands.append(call("data", "check", *paths, "--json", report))
    if report.exists():
        result.report = json.loads(report.read_text(encoding="utf-8"))
    return result


def run_convert(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> Result:
    result = Result("convert", data, inputs=files_of(data), out=work / "converted")
    for folder in sorted(p for p in (data / "dicom").iterdir() if p.is_dir()):
        result.commands.append(call("data", "import", folder, result.out / folder.name))
    return result


def run_train(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> Result:
    source, target = scene.source(data), scene.target(data)
    files = {**files_of(source), **files_of(target)}
    result = Result("train", data, inputs=files, out=work / "run")
    result.commands.append(train(result.out, source, target))
    return result


def train(run: Path, source: Path, target: Path, *, until: str = "refine") -> Done:
    return call("adapt", run, "--source", source, "--target", target, "--until", until, *tiny())


def run_predict(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> Result:
    result = Result("predict", data, out=work / "labels")
    named = {Path(name).name for name in named_files(case["checks"])}
    folders = [p for p in (data / "predict", data / "mr/images", data / "ct/images") if p.is_dir()]
    chosen = [p for p in folders if p.name == "predict" or named & set(files_of(p))]
    for number, folder in enumerate(chosen or folders[:1]):
        out = result.out / str(number)
        result.inputs |= files_of(folder)
        result.commands.append(call("predict", folder, out, "--model", scene.model()))
        for name in files_of(folder):
            if (out / f"{case_id(name)}.nii.gz").exists():
                result.labels[name] = out / f"{case_id(name)}.nii.gz"
        result.labels |= {p.name: p for p in out.glob("*.nii.gz")}
    return result


def run_evaluate(scene: Scene, case: Mapping[str, Any], data: Path, work: Path) -> Result:
    pred, truth = data / "pred", data / "gt"
    if not truth.is_dir():
        pred = truth = data / "ct" / "labels"  # a set of labels against itself
    result = Result("evaluate", data, inputs=files_of(truth) | files_of(pred))
    report = work / "scores.json"
    result.commands.append(call("evaluate", pred, truth, "--json", report))
    if report.exists():
        result.report = json.loads(report.read_text(encoding="utf-8"))
    return result


RUNNERS: dict[str, Callable[[Scene, Mapping[str, Any], Path, Path], Result]] = {
    "check": run_check,
    "convert": run_convert,
    "train": run_train,
    "predict": run_predict,
    "evaluate": run_evaluate,
}


def files_of(folder: Path) -> dict[str, Path]:
    """Files by name, hidden ones and folders of macOS left out."""
    return {
        p.name: p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".") and "__MACOSX" not in p.parts
    }


def case_id(name: str) -> str:
    for ending in (".nii.gz", ".nii"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name.rsplit(".", 1)[0]


def named_files(checks: list[Mapping[str, Any]]) -> Iterator[str]:
    for check in checks:
        yield from (str(check[key]) for key in ("file", "image") if key in check)
        yield from check.get("files", ())
        yield from named_files(check.get("checks", []))


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj), image.affine


def prepared(result: Result, file: str) -> Path:
    """Where ``prepare`` left a case, by its file in the case's data."""
    role = "source" if file.startswith("ct/") else "target"
    folder = result.out / "prepare" / role / case_id(Path(file).name)
    want(folder.is_dir(), f"{file} was not prepared")
    return folder


def usable(result: Result) -> list[str]:
    """The ids of the cases that came through a stage."""
    if result.stage == "check":
        return [c["case"] for p in result.report.get("paths", ()) for c in p.get("cases", ())]
    if result.stage == "train":
        path = result.out / "prepare" / "cases.json"
        want(path.exists(), "prepare left no list of cases")
        return [row["id"] for row in json.loads(path.read_text(encoding="utf-8"))["cases"]]
    if result.stage == "predict":
        return sorted({case_id(path.name) for path in result.labels.values()})
    if result.stage == "convert":
        return [p.parts[len(result.out.parts)] for p in result.out.rglob("*.nii.gz")]
    return [row["case"] for row in result.report.get("cases", ())]


def organ_stats(array: np.ndarray, affine: np.ndarray) -> dict[str, dict[str, Any]]:
    found = {}
    for value in np.unique(array.astype(int)):
        if value:
            index = np.argwhere(array == value)
            place = affine[:3, :3] @ index.mean(0) + affine[:3, 3]
            found[str(value)] = {"voxels": len(index), "centroid_ras_mm": place}
    return found


def checked_case(result: Result, file: str) -> dict[str, Any]:
    for path in result.report.get("paths", ()):
        for row in path.get("cases", ()):
            if Path(file).name in (row["image"], row["label"]):
                return dict(row)
    raise Fault(f"{file} is not among the usable cases")
