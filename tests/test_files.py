from __future__ import annotations

import hashlib
import math
import sys

import pytest

from labelferry.errors import UserError
from labelferry.files import (
    atomic_folder,
    atomic_path,
    hash_file,
    hash_value,
    read_json,
    sweep_parts,
    write_json,
    write_text,
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "a.nii.gz"
    with atomic_path(path) as part:
        assert part.parent == path.parent
        assert part.name.endswith("a.nii.gz")
        part.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [True, False])
def test_a_failure_leaves_the_old_file_or_none(tmp_path, error, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text("old")
    with pytest.raises(error), atomic_path(path) as part:
        part.write_text("half")
        raise error
    assert names(tmp_path) == (["a.txt"] if old else [])
    assert not old or path.read_text() == "old"


def test_a_failure_leaves_the_old_folder_or_none(tmp_path):
    path = tmp_path / "case"
    with atomic_folder(path) as part:
        (part / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(path) as part:
        (part / "b").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["case"]
    assert names(path) == ["a"]
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "other"):
        raise RuntimeError
    assert names(tmp_path) == ["case"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "case"
    for name in ("a", "b"):
        with atomic_folder(path) as part:
            (part / name).write_text(name)
    assert names(path) == ["b"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_results_are_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "ours", "x")
    with atomic_folder(tmp_path / "our_folder"):
        pass

    def mode(name):
        return (tmp_path / name).stat().st_mode

    assert mode("ours") == mode("plain")
    assert mode("our_folder") == mode("folder")


def test_what_a_killed_writer_left_is_swept(tmp_path):
    (tmp_path / "run" / ".part-abc").mkdir(parents=True)
    (tmp_path / "run" / ".part-abc" / ".part-inner").write_text("x")
    (tmp_path / "run" / ".part-xyz.json").write_text("x")
    (tmp_path / "run" / "kept.json").write_text("x")
    sweep_parts(tmp_path)
    assert names(tmp_path / "run") == ["kept.json"]


def test_json_comes_back(tmp_path):
    value = {"schema_version": 3, "name": "Ω", "rows": [1, 2.5, None, "…"]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert read_json(tmp_path / "a.json", schema=3) == value


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"dice": math.nan})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", ['{"schema_version": 2}', "{}", "[]", "3"])
def test_another_schema_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"schema version.*a\.json.*allowed: 3"):
        read_json(tmp_path / "a.json", schema=3)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}"])
def test_broken_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"not a JSON file.*a\.json"):
        read_json(tmp_path / "a.json")


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not found.*a\.json"):
        read_json(tmp_path / "a.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder\.json"):
        read_json(tmp_path / "folder.json")


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert hash_value({"a": 1, "b": [2]}) == hash_value({"b": [2], "a": 1})
    assert hash_value({"a": 1}) != hash_value({"a": 2})
