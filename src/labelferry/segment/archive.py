"""Reading the files of a bundle from a folder or a zip, and refusing everything else in there.

Nothing is ever extracted: entries are read into memory by their known names, up to a limit.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from labelferry.errors import UserError

BUNDLE_FILES = ("bundle.json", "plans.json", "dataset.json", "weights.safetensors")
PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".npy", ".npz")
"""Suffixes of files that can hold a pickle."""

Reader = Callable[[str, int], bytes]
"""The bytes of a file of the bundle, by its name, refused above a number of bytes."""


@contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """A reader of the bundle at ``path``, a folder or a ``.zip``.

    Raises ``UserError`` by name for a missing file, a pickle, a symbolic link and an oversize file;
    in a zip also for any other entry, an absolute path, ``..``, a repeated or an encrypted entry.
    """
    if path.suffix.lower() in PICKLES:
        raise _pickle(path.name, path)
    if path.is_dir():
        _check_folder(path)
        yield lambda name, limit: _read_file(path, name, limit)
        return
    if not path.is_file():
        raise UserError("no model here", path=path, fix="give a model folder or its .zip")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _check_entries(archive, path)
            yield lambda name, limit: _read_entry(archive, entries[name], limit, path)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            "not a model bundle, or a damaged one",
            path=path,
            seen=str(error),
            fix="copy or download it again",
        ) from error


def _check_folder(folder: Path) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.suffix.lower() in PICKLES:
            raise _pickle(entry.name, folder)
        if entry.name in BUNDLE_FILES and entry.is_symlink():
            raise UserError("a symbolic link in a bundle: refused", path=folder, seen=entry.name)
    for name in BUNDLE_FILES:
        if not (folder / name).is_file():
            raise _missing(name, folder)


def _read_file(folder: Path, name: str, limit: int) -> bytes:
    with (folder / name).open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise _oversize(name, (folder / name).stat().st_size, limit, folder)
    return raw


def _check_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename
        problem = _problem(info)
        if PurePosixPath(name).suffix.lower() in PICKLES:
            raise _pickle(name, path)
        if problem is None and name in entries:
            problem = "the same name twice in a bundle"
        if problem is not None:
            raise UserError(
                f"{problem}: refused", path=path, seen=name, allowed=", ".join(BUNDLE_FILES)
            )
        entries[name] = info
    for name in BUNDLE_FILES:
        if name not in entries:
            raise _missing(name, path)
    return entries


def _problem(info: zipfile.ZipInfo) -> str | None:
    name = info.orig_filename.replace("\\", "/")
    if name.startswith("/") or name[1:2] == ":":
        return "an absolute path in a bundle"
    if ".." in PurePosixPath(name).parts:
        return "a path out of the bundle"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a symbolic link in a bundle"
    if info.orig_filename not in BUNDLE_FILES:
        return "a file that does not belong in a bundle"
    if info.flag_bits & 0x1:
        return "an encrypted file in a bundle"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "an unusual compression in a bundle"
    return None


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, path: Path) -> bytes:
    if info.file_size > limit:
        raise _oversize(info.filename, info.file_size, limit, path)
    with archive.open(info) as stream:
        raw = stream.read(limit + 1)  # what the entry says of its size need not be true
    if len(raw) > limit:
        raise _oversize(info.filename, len(raw), limit, path)
    return raw


def _pickle(name: str, path: Path) -> UserError:
    return UserError(
        "a pickle can run any program: refused",
        path=path,
        seen=name,
        allowed="a bundle with weights.safetensors",
    )


def _missing(name: str, path: Path) -> UserError:
    return UserError(
        f"not a model bundle: {name} is missing", path=path, allowed=", ".join(BUNDLE_FILES)
    )


def _oversize(name: str, size: int, limit: int, path: Path) -> UserError:
    return UserError(
        f"{name} is too large for this model: refused",
        path=path,
        seen=f"{size} bytes",
        allowed=f"{limit} bytes",
    )
