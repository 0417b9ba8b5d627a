"""Triton kernels on machines without a GPU: run by the interpreter, compiled ahead for a GPU that is not there."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOPPER = 90
"""Compute capability of an H100 or H200, times ten."""


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel takes of a multiprocessor.

    Attributes:
        registers: of a thread.
        spilled: bytes of local memory a thread, registers that did not fit included.
        shared: bytes of shared memory a program.
        warps: of a program.
    """

    registers: int
    spilled: int
    shared: int
    warps: int


def interpreted() -> bool:
    """Whether Triton kernels are run by its interpreter, on tensors of the CPU (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "") == "1"


def compile_ahead(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    *,
    warps: int = 4,
    stages: int = 3,
    registers: int | None = None,
) -> Resources:
    """Compile for a Hopper GPU, none needed. Not in a process that interprets kernels.

    Args:
        kernel: a function under ``triton.jit``.
        signature: Triton's type of each argument that is no constant, such as ``"*fp32"`` or ``"i32"``.
        constants: values of the ``tl.constexpr`` arguments.
        registers: the most that a thread may have.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    # as at run time: PyTorch's memory begins at multiples of 16 bytes
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(types) if types[name].startswith("*")}
    source = ASTSource(kernel, signature=types, constexprs=constants, attrs=aligned)
    options = {"num_warps": warps, "num_stages": stages} | ({} if registers is None else {"maxnreg": registers})
    made = triton.compile(source, target=GPUTarget("cuda", HOPPER, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        told = subprocess.run(
            [tools / "cuobjdump", "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told)}
    return Resources(found["REG"], found["STACK"] + found["LOCAL"], made.metadata.shared, made.metadata.num_warps)
