"""Processes of a stage end with the one that started them, however it ends."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

from heliodor.errors import MissingExtraError

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


INTERRUPTED = """
import os, sys, time
from heliodor.gems.together import pool

def work(folder, k):
    open(f"{folder}/{k}-{os.environ['OMP_NUM_THREADS']}", "w").close()
    time.sleep(2.0)

if __name__ == "__main__":
    with pool(1) as processes:
        for k in range(30):
            processes.submit(work, sys.argv[1], k)
        print("waits", flush=True)
        time.sleep(600)
"""


def test_ctrl_c_does_not_wait_for_what_is_left(tmp_path):
    """A terminal sends the signal to the workers too: they must not take it for the failure of one piece of work."""
    script, done = tmp_path / "master.py", tmp_path / "done"
    script.write_text(INTERRUPTED)
    done.mkdir()
    master = subprocess.Popen(
        [sys.executable, str(script), str(done)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert master.stdout is not None
    master.stdout.readline()
    while not any(done.iterdir()):
        time.sleep(0.05)
    os.killpg(master.pid, signal.SIGINT)
    try:
        master.wait(20.0)
    finally:
        master.stdout.close()
        if master.poll() is None:
            os.killpg(master.pid, signal.SIGKILL)
            master.wait()
    names = [path.name for path in done.iterdir()]
    assert len(names) <= 2 and all(name.endswith("-1") for name in names)


def test_a_missing_package_is_told_by_a_worker_as_it_is():
    error = pickle.loads(pickle.dumps(MissingExtraError("tblite", "label")))
    assert isinstance(error, MissingExtraError) and "heliodor[label]" in str(error)
