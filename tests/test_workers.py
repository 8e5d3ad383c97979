"""No process of ours outlives the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from labelferry.workers import end_with_parent, spawned_pool

PARENT = """
import sys, time
from labelferry.workers import spawned_pool
if __name__ == "__main__":
    with spawned_pool(1) as pool:
        import os
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_worker_ends_with_a_killed_parent(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _lives(worker)
        parent.send_signal(getattr(signal, how))
        parent.wait(30)
    for _ in range(600):
        if not _lives(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent by a minute")


def _lives(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_pool_works_and_this_process_has_no_parent_to_watch():
    end_with_parent()  # does nothing in a process that was not spawned
    with spawned_pool(1) as pool:
        assert pool.submit(abs, -3).result() == 3
