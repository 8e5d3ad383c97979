"""The manifest of a stage: what went in, what came out, and whether it still holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from labelferry import __version__
from labelferry.errors import UserError
from labelferry.files import hash_file, hash_value, read_json, write_json

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Output:
    """One file that a stage wrote."""

    path: str
    """Relative to the stage's folder, with forward slashes."""
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Written last, so that a stage without a manifest is unfinished."""

    stage: str
    fingerprint: str
    """Hash of the stage's name, revision, configuration, seed and inputs."""
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Hash of the outputs of each stage before it, or of the cases on the disk."""
    outputs: tuple[Output, ...]
    seed: int
    versions: Mapping[str, str]
    seconds: float
    """Wall time of the process that finished the stage."""
    peak_memory_mb: float
    """Largest resident memory of that process so far, in MB."""
    summary: Mapping[str, Any]
    """What the stage says of itself: numbers of cases, scores without labels, notes."""
    failed: Mapping[str, str]
    """Cases that the stage could not do, with the reason."""

    @property
    def output_hash(self) -> str:
        """Hash of everything that the stage wrote."""
        return hash_value([[o.path, o.sha256] for o in self.outputs])

    def write(self, folder: Path) -> None:
        """Write atomically into the stage's folder."""
        write_json(folder / FILE_NAME, {"schema_version": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a finished stage; None where there is none."""
        path = folder / FILE_NAME
        if not path.exists():
            return None
        value = read_json(path, schema=SCHEMA_VERSION)
        value.pop("schema_version")
        try:
            value["outputs"] = tuple(Output(**row) for row in value["outputs"])
            return cls(**value)
        except (TypeError, KeyError) as error:
            raise UserError(
                "the manifest is damaged",
                path=path,
                seen=str(error),
                fix="delete this stage's folder and run again",
            ) from error

    def holds(self, folder: Path) -> bool:
        """Whether every output is still there with its size."""
        return all(
            (folder / o.path).is_file() and (folder / o.path).stat().st_size == o.size
            for o in self.outputs
        )


def list_outputs(folder: Path) -> tuple[Output, ...]:
    """All files of a stage's folder but its bookkeeping, in order of their paths."""
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.name not in (FILE_NAME, "state.json") and not p.name.startswith(".")
    )
    return tuple(
        Output(p.relative_to(folder).as_posix(), p.stat().st_size, hash_file(p)) for p in files
    )


def renew(folder: Path) -> None:
    """Take the files of a finished stage as they are now; an unfinished one is left alone."""
    manifest = Manifest.read(folder)
    if manifest is not None:
        replace(manifest, outputs=list_outputs(folder)).write(folder)


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    from importlib.metadata import version

    names = ("torch", "nnunetv2", "numpy", "scipy", "nibabel", "SimpleITK")
    return {
        "labelferry": __version__,
        "python": ".".join(str(v) for v in sys.version_info[:3]),
        **{name: version(name) for name in names},
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    import psutil

    info = psutil.Process().memory_info()
    try:
        import resource
    except ImportError:  # Windows tells its peak itself
        return float(getattr(info, "peak_wset", info.rss)) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1.0 if sys.platform == "darwin" else 1024.0) / 1e6
