"""Many steps in one launch: recorded as CUDA graphs, looked at once, taken back and repeated where lists ran out."""

DEVICES = frozenset({"cuda"})
"""Types of devices on which `heliodor.dynamics.simulate` takes captured steps; tests add the CPU."""


def captures_on(kind: str) -> bool:
    """Whether runs on such a device go by captured steps.

    Args:
        kind: "cuda", "cpu": the type of a `torch.device`.
    """
    return kind in DEVICES
