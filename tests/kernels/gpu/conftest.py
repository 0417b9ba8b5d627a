"""Triton's interpreter runs the kernels where there is no GPU; it must be chosen before they are imported."""

import os

import pytest
import torch

pytest.importorskip("triton", reason="the extra 'gpu' is not installed")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
