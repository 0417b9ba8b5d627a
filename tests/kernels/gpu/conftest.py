"""Triton's interpreter runs the kernels where there is no GPU; it must be chosen before they are imported."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    # before triton itself is imported: its own library of functions is bound then
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="the extra 'gpu' is not installed")
