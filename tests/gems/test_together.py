"""Processes of a stage end with the one that started them, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import os, time
from heliodor.gems.together import pool

if __name__ == "__main__":
    with pool(1) as processes:
        print(processes.submit(os.getpid).result(), flush=True)
        processes.submit(time.sleep, 600).result()
"""


def test_workers_end_when_their_master_is_killed(tmp_path):
    script = tmp_path / "master.py"
    script.write_text(SCRIPT)
    master = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert master.stdout is not None
    worker = int(master.stdout.readline())
    os.kill(worker, 0)
    master.send_signal(signal.SIGKILL)
    master.wait()
    master.stdout.close()
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{worker}/stat").read_text().split()[2]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker went on for a minute without its master")
