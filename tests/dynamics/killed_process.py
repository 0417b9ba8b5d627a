"""Runs in parts that are killed at random moments: python killed_process.py SEED KILLS NAME:KIND:FOLDER ...

Each run is a fork of this process, which pays for the imports once; it is killed with SIGKILL so many times, begun
again each time, and left there. Prints "killed FOLDER AFTER" for each, "done FOLDER" if it was too late.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from parts import go

LAST = 100
ATONCE = 4

if __name__ == "__main__":
    torch.set_num_threads(1)
    seed, kills, *cases = sys.argv[1:]
    rng = random.Random(int(seed))
    todo = [case.split(":") for case in cases for _ in range(int(kills))]
    # a run must not overlap with its own next part: rounds over all cases
    todo = [case for k in range(int(kills)) for case in todo[k :: int(kills)]]
    running = {}
    while todo or running:
        while todo and len(running) < ATONCE and todo[0][2] not in [case[2] for case, *_ in running.values()]:
            case = todo.pop(0)
            begun = time.time_ns()
            child = os.fork()
            if child == 0:
                name, kind, folder = case
                go(Path(folder), last_step=LAST, kind=kind, name=name, pause=0.004)
                os._exit(0)
            # most while they write, some while they open their files
            early = rng.random() < 0.2
            running[child] = (case, begun, time.perf_counter() + rng.uniform(0.0, 0.1) if early else None)
        for child, (case, begun, moment) in list(running.items()):
            restart = Path(case[2]) / "run.restart"
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                print("done" if status == 0 else "failed", case[2], flush=True)
                del running[child]
            elif moment is None:
                if restart.exists() and restart.stat().st_mtime_ns > begun:
                    running[child] = (case, begun, time.perf_counter() + rng.uniform(0.0, 0.15))
            elif time.perf_counter() >= moment:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                print("killed", case[2], flush=True)
                del running[child]
        time.sleep(0.001)
