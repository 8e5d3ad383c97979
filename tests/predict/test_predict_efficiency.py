"""Measuring predictions in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.predict import efficiency
from labelferry.predict.efficiency import measure
from labelferry.segment.bundle import Bundle, write_bundle
from labelferry.segment.network import build_network
from labelferry.volume import Volume


@pytest.fixture
def images(tmp_path: Path, scan: Volume) -> Path:
    """An image by nnU-Net's name, and one that is no image."""
    folder = tmp_path / "Jane Doe" / "images"
    write_volume(folder / "a_0000.nii.gz", scan)
    (folder / "broken_0000.nii.gz").write_bytes(b"not an image")
    return folder.parent


@pytest.fixture
def model(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> Path:
    bundle = make_bundle()
    network = build_network(
        bundle.network, 1, 3, spacing=bundle.anatomy.spacing[::-1], deep_supervision=True
    )
    write_bundle(tmp_path / "model", bundle, network.state_dict())
    return tmp_path / "model"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Let a few lines of Python stand for ``labelferry predict``; temporary files go to a folder
    of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    target = efficiency._Target("student", "cpu", "a CPU", None, "fast")
    monkeypatch.setattr(efficiency, "_probe", lambda model, device: target)

    def use(code: str) -> None:
        def command(job: efficiency._Job) -> list[str]:
            head = f"image, labels, model = {str(job.image)!r}, {str(job.labels)!r}, 'm'\n"
            head += "import time\ntime.sleep(0.5)\n"  # long enough to be looked at once
            return [sys.executable, "-c", head + code]

        monkeypatch.setattr(efficiency._Job, "command", property(command))

    return use


def test_measures_what_predict_does(images: Path, model: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    table = measure(
        [images],
        model,
        device="cpu",
        keep=tmp_path / "kept",
        progress=lambda done, total: seen.append((done, total)),
    )
    (cost,) = table.cases
    assert cost.case == "a"
    assert 0.5 < cost.seconds < 120
    # torch alone holds more than that
    assert 100 < cost.peak_mb < 4096
    assert len(cost.samples) > 3
    assert cost.sample_sum_mb == pytest.approx(cost.area_mb_s / 0.1, rel=0.5)
    assert (table.memory, table.model, table.baseline_mb) == ("resident", "student", 0)
    (failure,) = table.failures
    assert failure.case == "broken"
    assert "gzip" in failure.reason
    assert "Jane" not in str(table.to_json()) and str(tmp_path) not in str(table.to_json())
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["a.nii.gz"]
    # the very bytes that predict writes
    command = [sys.executable, "-m", "labelferry", "predict", str(images), str(tmp_path / "out")]
    subprocess.run([*command, "--model", str(model), "--device", "cpu"], check=False)
    expected = (tmp_path / "out" / "a.nii.gz").read_bytes()
    assert (tmp_path / "kept" / "a.nii.gz").read_bytes() == expected


def test_predict_loads_nothing_needless(images: Path, model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from labelferry.cli import run\n"
        f"image = {str(images / 'images' / 'a_0000.nii.gz')!r}\n"
        f"run(['predict', image, {str(tmp_path / 'o')!r}, '--model', {str(model)!r}])\n"
        "heavy = {'torch._dynamo', 'SimpleITK', 'blosc2', 'pandas', 'matplotlib', 'skimage'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o" / "a.nii.gz").exists()


def test_mistakes_are_told_before_the_first_case(
    images: Path, model: Path, tmp_path: Path, scan: Volume
) -> None:
    with pytest.raises(UserError, match="no such model"):
        measure([images], tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown device"):
        measure([images], model, device="toaster")
    with pytest.raises(UserError, match="interval"):
        measure([images], model, interval=0.0)
    with pytest.raises(UserError, match="interval"):
        measure([images], model, interval=float("nan"))
    with pytest.raises(UserError, match="in the input"):
        measure([images], model, keep=images / "labels")
    with pytest.raises(UserError, match="no such file"):
        measure([tmp_path / "none.nii.gz"], model)
    write_volume(tmp_path / "a.nii.gz", scan)
    with pytest.raises(UserError, match="same label file"):
        measure([images, tmp_path / "a.nii.gz"], model)


def test_an_image_given_twice_is_one_case(images: Path, scripted: Callable[[str], None]) -> None:
    scripted("open(labels, 'w').close()")
    table = measure([images, images / "images" / "a_0000.nii.gz"], Path("m"))
    assert [cost.case for cost in table.cases] == ["a", "broken"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('warning: x\\nfailed: a: empty file (0 bytes)')", "empty file"),
        ("import sys; sys.exit('error: not an image (' + image + ')')", "image (a_0000.nii.gz)"),
        ("raise RuntimeError('in ' + labels)", "RuntimeError: in the labels"),
        ("import os; os._exit(5)", "exit code 5 and not a word"),
        pytest.param(
            "import os; os.kill(os.getpid(), 9)",
            "killed by signal 9 (Killed); perhaps the memory did not suffice",
            marks=pytest.mark.skipif(os.name == "nt", reason="no signals"),
        ),
    ],
)
def test_a_failed_case_is_named_with_what_it_said(
    images: Path, scripted: Callable[[str], None], code: str, reason: str
) -> None:
    scripted(code)
    table = measure([images / "images" / "a_0000.nii.gz"], Path("m"))
    assert not table.cases
    (failure,) = table.failures
    assert failure.case == "a"
    assert reason in failure.reason
    assert "/" not in failure.reason


def test_much_said_does_not_block(images: Path, scripted: Callable[[str], None]) -> None:
    scripted("import sys; sys.stderr.write('x' * 10**6 + '\\n'); sys.stdout.write('y' * 10**6)")
    (cost, _) = measure([images], Path("m")).cases
    assert cost.seconds < 60


def test_a_terminal_in_the_environment_changes_nothing(
    images: Path, scripted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    scripted("import os, sys; sys.exit('error: ' + os.environ.get('FORCE_COLOR', 'plain'))")
    assert measure([images], Path("m")).failures[0].reason == "plain"


@pytest.mark.skipif(os.name == "nt", reason="a signal to one thread")
def test_an_interrupt_leaves_nothing_behind(
    images: Path, scripted: Callable[[str], None], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    scripted(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(labels, 'w').close()\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(60)\n"
    )
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        for _ in range(600):
            if pids.exists() and len(pids.read_text().split()) == 2:
                break
            time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    # a shell that starts the tests in the background lets them ignore interrupts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            measure([images], Path("m"), keep=tmp_path / "kept")
    finally:
        signal.signal(signal.SIGINT, before)
    gone = [int(pid) for pid in pids.read_text().split()]
    assert not any(_alive(pid) for pid in gone)
    assert not any((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "kept").exists()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.cuda
def test_on_a_gpu(images: Path, model: Path) -> None:
    pytest.importorskip("pynvml")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    table = measure([images], model, device="cuda")
    (cost,) = table.cases
    assert table.memory == "device"
    assert table.device == torch.cuda.get_device_name(0)
    # the context alone takes some hundred MB
    assert cost.peak_mb > table.baseline_mb + 50
    assert cost.samples[0].mb == pytest.approx(table.baseline_mb, abs=50)
