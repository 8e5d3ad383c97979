"""The command line as a person meets it: help, mistakes, exit codes."""

import subprocess
import sys

import pytest

from labelferry.cli import run


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import labelferry",
        "import labelferry; labelferry.FLARE; labelferry.Volume",
        "from labelferry.cli import run; run(['--help'])",
        "from labelferry.cli import run; run(['adapt', '--help'])",
        "from labelferry.cli import run; run(['evaluate', '--help'])",
    ],
)
def test_loads_no_torch(code):
    done = python(f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was loaded'")
    assert done.returncode == 0, done.stderr


def test_mistakes_leave_with_2_and_no_traceback(capsys, tmp_path):
    mistakes = [
        ["adpt"],
        ["adapt"],
        ["status", str(tmp_path / "nowhere")],
        ["adapt", str(tmp_path / "r"), "--source", "/nowhere", "--target", "/nowhere"],
        ["predict", "/nowhere", str(tmp_path / "o"), "--model", str(tmp_path)],
        ["evaluate", "/nowhere", "/nowhere"],
        ["phantom", str(tmp_path / "p"), "--ct", "0"],
        ["report", str(tmp_path)],
        ["demo", str(tmp_path / "d"), "--size", "dem"],
        ["ladder", str(tmp_path / "l"), "--size", "dem"],
        ["data", "check", "/nowhere"],
    ]
    for tokens in mistakes:
        assert run(tokens) == 2, tokens
        told = capsys.readouterr()
        assert "error:" in told.err and "Traceback" not in told.err, tokens
    assert not any((tmp_path / name).exists() for name in "rpodl"), "nothing half-written"


def test_an_unknown_verb_is_answered_with_the_nearest(capsys):
    run(["adpt"])
    assert 'Did you mean "adapt"' in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_that_is_stopped_says_how_to_go_on(name, code):
    done = python(f"""
import os, signal, time
from labelferry.cli import main
from labelferry.pipeline import chain

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs aside

def status(run):
    os.kill(os.getpid(), signal.{name})
    time.sleep(60)

chain.status = status
main(["status", "anything"])
""")
    assert done.returncode == code
    assert done.stderr.strip() == "stopped; the same command goes on from here"


def test_a_fault_of_ours_leaves_with_1_and_says_where_the_traceback_is(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken(run):
        raise RuntimeError("boom")

    monkeypatch.setattr("labelferry.pipeline.chain.status", broken)
    assert run(["status", "anything"]) == 1
    told = capsys.readouterr().err
    assert "boom" in told and "traceback.txt" in told and "Traceback (most" not in told
    (written,) = tmp_path.rglob("traceback.txt")
    assert "boom" in written.read_text()


def test_version(capsys):
    assert run(["--version"]) == 0
    assert "0.1.0" in capsys.readouterr().out
