"""Reading memory: of a process with its children, and of a GPU through NVML."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from labelferry.errors import UserError
from labelferry.predict.memory import MB, Meter, collect, open_meter, resident_mb

HOLD = "b = bytearray({mb} * 2**20); print('ready', flush=True); import time; time.sleep(60)"
PARENT = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {code!r}]); p.wait()"


class FakeNvml(SimpleNamespace):
    """As much of ``pynvml`` as is used: one device of 1000 MB."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__(open=False, free=900, uuids=("GPU-1234",))

    def nvmlInit(self) -> None:  # noqa: N802
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.uuids:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert self.open and handle in self.uuids
        # 'used' leaves out what the driver reserves
        return SimpleNamespace(total=1000 * MB, free=self.free * MB, used=1)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def hold(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    import psutil

    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.communicate()


def test_resident_memory_of_a_process() -> None:
    with open_meter(None) as meter:
        assert (meter.kind, meter.baseline_mb) == ("resident", 0)
        process = hold(HOLD.format(mb=64))
        mb = meter.read(process.pid)
        end(process)
        assert mb is not None and 64 < mb < 200
        assert meter.read(process.pid) is None


def test_children_count() -> None:
    process = hold(PARENT.format(code=HOLD.format(mb=64)))
    mb = resident_mb(process.pid)
    end(process)
    assert mb is not None and 64 < mb < 300


def test_a_process_that_has_ended_but_was_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    for _ in range(600):
        if resident_mb(process.pid) is None:
            break
        time.sleep(0.05)
    assert resident_mb(process.pid) is None
    assert process.wait() == 0


def test_ticks_do_not_drift() -> None:
    stop = threading.Event()
    reads: list[int] = []

    def read(pid: int) -> float | None:
        reads.append(pid)
        if len(reads) == 8:
            stop.set()
        return None if len(reads) == 1 else float(len(reads))

    start = time.perf_counter()
    samples = collect(Meter("device", read), 7, start=start, interval=0.05, stop=stop)
    assert reads == [7] * 8
    assert [sample.mb for sample in samples] == [2, 3, 4, 5, 6, 7, 8]
    # on a busy machine a tick may be late or left out, never early
    late = [sample.seconds % 0.05 for sample in samples]
    assert sorted(late)[3] < 0.04
    assert all(b.seconds > a.seconds for a, b in pairwise(samples))


def test_a_gpu_is_read_as_total_minus_free(nvml: FakeNvml) -> None:
    with open_meter("1234") as meter:
        assert nvml.open
        assert (meter.kind, meter.baseline_mb) == ("device", 100)
        nvml.free = 400
        assert meter.read(os.getpid()) == 600
    assert not nvml.open
    with open_meter("GPU-1234") as meter:
        assert meter.baseline_mb == 600


def test_faults_of_nvml_are_told(nvml: FakeNvml) -> None:
    with pytest.raises(UserError, match=r"NVML; seen: Not Found.*--device cpu"), open_meter("77"):
        pass
    assert not nvml.open
    with open_meter("1234") as meter:
        nvml.nvmlDeviceGetMemoryInfo = None  # type: ignore[assignment]
        with pytest.raises(TypeError):
            meter.read(0)
    assert not nvml.open


def test_without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UserError, match=r"labelferry\[gpu\]"), open_meter("1234"):
        pass


@pytest.mark.cuda
def test_a_real_gpu() -> None:
    pytest.importorskip("pynvml")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    with open_meter(uuid) as meter:
        held = torch.zeros(256 * MB, dtype=torch.uint8, device="cuda:0")
        torch.cuda.synchronize()
        now = meter.read(os.getpid())
        assert now is not None and now >= meter.baseline_mb + 256
        assert held.sum().item() == 0
