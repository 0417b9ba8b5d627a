"""One label from a method, outside a campaign."""

from __future__ import annotations

import ase

from heliodor.label.label import Label, LabelError, Method, NotConvergedError


def labelled(method: Method, atoms: ase.Atoms) -> Label:
    """A label, with as much effort as it takes.

    Raises:
        LabelError: not converged with the largest effort, or outside the method.
    """
    last = LabelError(f"{method.name} has no settings to try")
    for effort in range(method.efforts):
        try:
            return method(atoms, effort)
        except NotConvergedError as error:
            last = error
    raise last
