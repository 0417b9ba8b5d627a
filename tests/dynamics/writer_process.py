"""Long simulations of a toy for a test to interrupt: python writer_process.py NAME:SAVE_EVERY ...

Each runs in a fork of this process, which pays for the imports once. Prints "started NAME PID" when a run has
written something, and "ended NAME STATUS" for each. A run that ends in order writes NAME.end.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from toys import Morse, cluster

from heliodor.dynamics.run import simulate


def run(name: str, save_every: float) -> None:
    running = Path(name + ".running")

    def announce(report):
        if report.step and not running.exists():
            running.touch()

    result = simulate(
        cluster(5),
        Morse(),
        ensemble="nve",
        temperature=100.0,
        time="1 us",
        save_every=save_every,
        output=name,
        plot=None,
        seed=0,
        progress=announce,
    )
    Path(name + ".end").write_text(f"{result.interrupted} {result.steps}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    children = {}
    for case in sys.argv[1:]:
        name, _, save_every = case.partition(":")
        child = os.fork()
        if child == 0:
            run(name, float(save_every))
            os._exit(0)
        children[child] = name
    for child, name in children.items():
        while not Path(name + ".running").exists():
            time.sleep(0.01)
        print("started", name, child, flush=True)
    while children:
        child, status = os.wait()
        print("ended", children.pop(child), os.waitstatus_to_exitcode(status), flush=True)
