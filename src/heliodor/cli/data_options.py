"""Options that say which keys of a file are labels and in which units, for all of `heliodor data`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heliodor.train.data.reading import Wanted

KEYS = {
    "energy": "energies",
    "forces": "forces",
    "stress": "stresses",
    "dipole": "dipoles",
    "hirshfeld-ratios": "Hirshfeld ratios",
    "charges": "partial charges",
    "charge": "total charges",
    "spin": "numbers of unpaired electrons",
    "multiplicity": "multiplicities",
    "kind": "kinds",
    "group": "groups, such as molecules",
    "positions": "positions (npz, HDF5)",
    "numbers": "atomic numbers (npz, HDF5)",
}
UNITS = {
    "units": ("ENERGY", "Unit of energies: eV, hartree, kcal/mol, kJ/mol; forces are in this over the length."),
    "length-unit": ("LENGTH", "Unit of positions: Å, bohr, nm."),
    "force-unit": ("UNIT", "Unit of forces, such as hartree/bohr, if it is not the above."),
    "dipole-unit": ("UNIT", "Unit of dipoles: e*Å, e*bohr, debye."),
    "stress-unit": ("UNIT", "Unit of stresses: eV/Å^3, GPa, kbar, ..."),
}


def with_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with these options in the place of its ``wanted``, a `Wanted`."""
    own = inspect.signature(command, eval_str=True)
    before = [p for p in own.parameters.values() if p.name != "wanted"]
    added = [_option(f"{name}-key", "KEY", f"Where {what} are.") for name, what in KEYS.items()]
    added += [_option(name, metavar, text) for name, (metavar, text) in UNITS.items()]
    added += [
        _option("method", "NAME", "Level of theory of the labels."),
        _flag("gradient", "What is stored as forces are gradients, of the opposite sign."),
        _flag("unlabelled", "Take structures without energies and forces too."),
        _flag("keep-nan", "Take labels that are not numbers as missing ones, rather than refuse the file."),
    ]
    names = [p.name for p in added]

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        given = {name: values.pop(name) for name in names}
        return command(**values, wanted=_wanted(given))

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*before, *added]]
    wrapped.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in keyword}
    return wrapped


def _option(name: str, metavar: str, text: str) -> inspect.Parameter:
    annotation = Annotated[str | None, typer.Option(f"--{name}", metavar=metavar, help=text, show_default=False)]
    return inspect.Parameter(
        name.replace("-", "_"), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _flag(name: str, text: str) -> inspect.Parameter:
    annotation = Annotated[bool, typer.Option(f"--{name}", help=text)]
    return inspect.Parameter(
        name.replace("-", "_"), inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation
    )


def _wanted(given: dict[str, Any]) -> Wanted:
    from heliodor.train.data.reading import Wanted

    keys = {name.replace("-", "_"): given[f"{name.replace('-', '_')}_key"] for name in KEYS}
    return Wanted(
        keys={name: key for name, key in keys.items() if key is not None},
        energy_unit=given["units"],
        length_unit=given["length_unit"],
        force_unit=given["force_unit"],
        dipole_unit=given["dipole_unit"],
        stress_unit=given["stress_unit"],
        gradient=given["gradient"],
        method=given["method"] or "",
        unlabelled=given["unlabelled"],
        keep_nan=given["keep_nan"],
    )
