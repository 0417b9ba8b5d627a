"""The kinds of work in a step of a model, and the rules by which their operations and bytes are counted.

Counted is one evaluation of energy and forces for one atom, by the best regrouping known: radial filters from cubic
splines, linear maps that follow each other folded into one, every pair's symmetric parts once for both directions,
gradients by positions only. Not counted: integrator, thermostat, the search for neighbours, angular functions.

How each is counted:

- linear maps: 2 operations a weight and row forward; the gradient by the input takes as many again (parameters have
  none).
- splines: a value by Horner's rule takes 6 operations, its slope 4, the product with what comes back 2: `SPLINE`.
- products of three factors summed over features (attention: q k w): 3 operations forward, 9 for the gradients by all.
- exponentials, roots, divisions, error functions: `SPECIAL` operations each.
- bytes: each float32 feature an atom hands from one sweep over edges to the next is written and read once going
  forward, read once more going back, and its gradient is written and read once (`PASSES`); the neighbour list (`LISTED`
  bytes an entry) is read once in each sweep; parameters are shared by all atoms and left out.
"""

from __future__ import annotations

from dataclasses import dataclass

SPECIAL = 8.0
SPLINE = 12.0
PASSES = 5.0
WORD = 4.0
LISTED = 8.0


@dataclass(frozen=True)
class Part:
    """One kind of work, for one atom and step.

    Attributes:
        name: what it is.
        maps: operations of dense linear maps, forward; going back takes as many.
        other: all other operations, forward and backward.
        bytes: moved through memory, forward and backward.
    """

    name: str
    maps: float = 0.0
    other: float = 0.0
    bytes: float = 0.0

    @property
    def operations(self) -> float:
        """Forward and backward."""
        return 2.0 * self.maps + self.other


@dataclass(frozen=True)
class Around:
    """How many neighbours an atom has on average, both directions counted: of the network, and of long-range terms."""

    edges: float
    pairs: float = 0.0
