"""MACE's Triton kernels compiled for the GPU that is not here, for the shapes of the published models."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import heliodor


def test_nothing_spills():
    """float32; by a process that does not interpret. OFF23 (S), and of OFF23 (M) and OFF24 (M) what is larger there."""
    code = """
        import torch
        from heliodor.kernels.cpu.mace.tables import products
        from heliodor.kernels.gpu.mace import convolve as mace_convolve
        from heliodor.kernels.gpu.mace import edges as mace_edges
        from heliodor.kernels.gpu.mace import linear as mace_linear
        from heliodor.kernels.gpu.mace import products as mace_products
        from heliodor.kernels.gpu.mace import readout as mace_readout
        from heliodor.kernels.gpu.ahead import compile_ahead
        from heliodor.kernels.gpu.mace.kernel import LANES, channel_block
        from heliodor.potentials.mace import MACE, MACEConfig

        def types(kernel, doubles="", longs="batch"):
            known = {name: "*fp64" for name in doubles.split()} | {name: "*i64" for name in longs.split()}
            whole = "row own sender kind image number species index shift count plan first order tiles"
            known |= {name: "*i32" for name in whole.split()}
            known |= {"capacity": "i32", "n_atoms": "i32", "stride": "i32"}
            return {name: known.get(name, "*fp32") for name in kernel.arg_names if name == name.lower()}

        def check(name, kernel, constants, warps=1, allowed=0, **kinds):
            used = compile_ahead(kernel, types(kernel, **kinds), constants, warps=warps)
            print(name, used)
            assert used.spilled <= allowed, (name, used)

        for degree, channels in ((0, 96), (1, 128)):
            isolated, average = (0.0,), (1.0, 1.0)
            config = MACEConfig(5.0, (1,), 1, (degree, 0), isolated, average, radial_hidden=(1,))
            layers = MACE(config).network.layers
            block = channel_block(channels, degree)
            radial = {"SCALE": 1024 / 5.0, "KNOTS": 1025, "K": channels, "BLOCK": block}
            paths = tuple(layers[1].paths)
            # four registers of M's second layer; nothing of S
            check("convolve", mace_convolve.convolve(paths), radial, allowed=16 * degree)
            back = mace_convolve.convolve_back(paths, True, block > LANES)
            check("convolve_back", back, radial | {"LANES": LANES})
            made = products(layers[0], torch.float32)
            of = mace_products.monomials(16, made.components, made.pairs, made.terms)[-1]
            size = {"K": channels, "BLOCK": 128}
            check("multiply", mace_products.multiply(of), size)
            check("multiply_back", mace_products.multiply_back(of), size)
            shape = {"IN": 16, "OUT": 16, "K": channels, "W": channels, "ADD": 1, "PRECISION": "tf32x3"}
            tile = {"ROWS": 64, "COLUMNS": 64 if channels % 64 == 0 else 32, "INNER": 32}
            check("linear", mace_linear.linear, shape | tile, warps=4)
            constants = {"GATE": 1.7, "SCALE": 0.8, "SHIFT": 0.0, "Q": (degree + 1) ** 2, "K": channels, "H": 16}
            constants |= {"CHANNELS": 128, "HIDDEN": 16, "BACK": True}
            check("readout", mace_readout.readout, constants, warps=4)
        check("edges", mace_edges.edges, {"CUTOFF": 6.0, "WIDTH": 128}, doubles="positions cell")
        check("cut", mace_linear.cut, {"Z": 10, "WIDTH": 16, "ROWS": 64}, longs="end")
        strained = {"PARTS": 2, "WIDTH": 128, "STRAIN": True}
        check("collect", mace_edges.collect, strained, doubles="gradient strain")
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(heliodor.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Resources") == 15
