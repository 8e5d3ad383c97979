"""Files that are either whole or absent: atomic writing, hashes, schema versions."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from labelferry.errors import UserError

_LONGEST_SUFFIX = 40


@cache
def _umask() -> int:
    """What the user's new files are kept from; it can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes the place of ``path``.

    The temporary name keeps the suffix of ``path``, since many writers choose their format by it.
    A failure or a kill leaves the old file, or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    end = path.name[-_LONGEST_SUFFIX:]  # of a name that is as long as names may be
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=end)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("r+b") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp makes it the owner's alone
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; on success it takes the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=".part-"))
    try:
        yield part
        part.chmod(0o777 & ~_umask())  # mkdtemp makes it the owner's alone
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep_parts(folder: Path) -> None:
    """Remove what a killed writer left behind anywhere below ``folder``."""
    for part in sorted(folder.rglob(".part-*"), reverse=True):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV with a line feed after each row; None becomes an empty field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. NaN and infinities are refused: JSON has none (use null)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, sort_keys=False) + "\n")


def read_json(path: Path, *, schema: int | None = None) -> Any:
    """Read JSON; with ``schema``, refuse a file of another ``schema_version`` by name."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("file not found", path=path) from error
    except OSError as error:
        raise UserError("the file cannot be read", path=path, seen=error.strerror) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError("not a JSON file", path=path, seen=str(error)) from error
    if schema is not None:
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != schema:
            raise UserError(
                "the file has another schema version",
                path=path,
                seen=version,
                allowed=schema,
                fix="make it again with this version of labelferry",
            )
    return value


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
