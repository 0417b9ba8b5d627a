"""heliodor's potentials under openmmml's `MLPotential`: found by the entry points that pyproject.toml declares.

openmmml loads this while it is itself being imported, so that nothing of it may be imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.engines.openmm.potential import HeliodorPotential

MODELS = {"heliodor": "heliodor-s", "so3lr": "so3lr", "spookynet": "spookynet-gfn2"}
"""The model of each name; that of ``heliodor`` can be chosen."""


class HeliodorFactory:
    """Makes what ``MLPotential("so3lr")``, ``("spookynet")`` and ``("heliodor", model=...)`` stand for."""

    def createImpl(self, name: str, **args: Any) -> HeliodorPotential:
        """Called by openmmml.

        Args:
            name: "heliodor", "so3lr" or "spookynet".
            args: ``model`` for "heliodor": a name, a file, several of these, or a loaded potential; and options of
                `heliodor.engines.openmm.potential.HeliodorPotential`.

        Raises:
            InputError: an unknown option, or a model for a name that is one.
        """
        from heliodor.engines.openmm.potential import HeliodorPotential

        model = args.pop("model", None)
        if model is not None and name != "heliodor":
            raise InputError(
                f"MLPotential({name!r}) is one model: write MLPotential('heliodor', model=...) for another"
            )
        return HeliodorPotential(MODELS[name] if model is None else model, args)
