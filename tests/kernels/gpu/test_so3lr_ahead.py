"""SO3LR's passes over edges compile for a Hopper GPU, and fit into its registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

CODE = """
import json
from heliodor.kernels.gpu.ahead import compile_ahead
from heliodor.kernels.gpu.so3lr.edges import attend
from heliodor.kernels.gpu.so3lr.layout import layout_of
from heliodor.kernels.gpu.so3lr.network import Tuning
from heliodor.potentials.so3krates import SO3kratesConfig
layout, tuning = layout_of(SO3kratesConfig()), Tuning()
shape = dict(HEADS=layout.heads, WIDTH=layout.head_width, DEGREES=layout.degrees, DEGREE_WIDTH=layout.degree_width,
             M=layout.components, HIDDEN=layout.hidden, RANK=32, INTERVALS=1024, FIRST=False, BLOCK=tuning.edges,
             PRECISION=tuning.precision)
special = dict(index="*i32", count="*i32", capacity="i32", cutoff="fp32", per_angstrom="fp32")
signature = {name: special.get(name, "*fp32") for name in attend.arg_names if name not in shape}
found = compile_ahead(attend, signature, shape, warps=tuning.edges_warps, stages=1)
print(json.dumps([found.registers, found.spilled, found.shared]))
"""


def test_forward_pass_does_not_spill() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    _, spilled, shared = json.loads(done.stdout.splitlines()[-1])
    assert spilled == 0
    assert shared < 100_000
