"""Kernels for GPUs need Triton; where there is no GPU its interpreter runs them (see the conftest above)."""

import pytest

pytest.importorskip("triton", reason="the extra 'gpu' is not installed")
