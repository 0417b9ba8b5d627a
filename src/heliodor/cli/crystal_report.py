"""What heliodor crystal refuses of a CIF file, and what it says: for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliodor.cli.common import describe_cell
from heliodor.errors import InputError

if TYPE_CHECKING:
    from heliodor.crystal import LatticeEnergy, Molecule


def check_cif(path: Path, frame: int) -> None:
    """Refuse a disordered structure; files that are no CIF pass.

    Args:
        frame: which of the file's structures.

    Raises:
        InputError: sites that are occupied in part, or alternatives of a disordered group.
    """
    if path.suffix.lower() != ".cif":
        return
    from ase.io.cif import parse_cif

    blocks = [block for block in parse_cif(str(path)) if block.has_structure()]
    if not -len(blocks) <= frame < len(blocks):
        return
    block = blocks[frame]
    labels = block.get("_atom_site_label") or block.get("_atom_site_type_symbol") or []
    occupancies = block.get("_atom_site_occupancy") or []
    groups = block.get("_atom_site_disorder_group") or []
    partial = [k for k, value in enumerate(occupancies) if isinstance(value, (int, float)) and value < 0.999]
    disordered = [k for k, value in enumerate(groups) if str(value).strip() not in (".", "?", "0", "")]
    for sites, what in ((partial, "is occupied in part"), (disordered, "belongs to a disordered group")):
        if sites:
            name = labels[sites[0]] if sites[0] < len(labels) else f"number {sites[0]}"
            more = f" (and {len(sites) - 1} more)" if len(sites) > 1 else ""
            raise InputError(
                f"{path} is disordered: site {name}{more} {what}; make an ordered structure of it, with one of the "
                "alternatives at full occupancy"
            )


def introduce(
    molecules: list[Molecule], relax: str, fmax: float, smax: float, pressure: float
) -> list[tuple[str, str]]:
    """The crystal's molecules and what will be done, as (title, text)."""
    counts = Counter(m.formula for m in molecules)
    what = {
        "cell": f"cell and positions at {pressure:g} bar to {fmax:g} eV/Å and {smax:g} GPa, molecules alone too",
        "positions": f"positions to {fmax:g} eV/Å, cell fixed, molecules alone too",
        "none": "none",
    }[relax]
    return [("molecules", ", ".join(f"{n} {formula}" for formula, n in counts.items())), ("relaxation", what)]


def report(found: LatticeEnergy, temperature: float | None) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The result as JSON and as lines of (title, text).

    Args:
        temperature: K, of the sublimation enthalpy; None leaves it out.
    """
    values: dict[str, Any] = {
        "formula_unit": found.formula,
        "formula_units_in_cell": found.units,
        "z_prime": found.z_prime,
        "lattice_energy_eV": found.energy,
        "lattice_energy_kJ_per_mol": found.kj_per_mol,
        "lattice_energy_kcal_per_mol": found.kcal_per_mol,
        "long_range_cutoff_A": found.long_range_cutoff,
        "lattice_energy_without_cutoff_eV": found.energy_without_cutoff,
        "relative_crystal_energy_eV": found.crystal_energy,
        "molecules": [
            {
                "formula": c.formula,
                "per_formula_unit": c.per_unit,
                "conformers_in_crystal": c.conformers,
                "source": c.source,
                "relaxed": c.relaxed,
                "relative_energy_eV": c.energy,
                "relative_energies_of_conformers_eV": list(c.energies),
            }
            for c in found.components
        ],
        "relax": found.relax,
        "converged": found.converged,
        "steps": found.steps,
        "fmax_eV_per_A": found.fmax,
        "pressure_bar": found.pressure,
        "cell_before": [float(x) for x in found.start.cell.cellpar()],
        "cell_after": [float(x) for x in found.final.cell.cellpar()],
        "volume_change_percent": found.volume_change,
        "density_before_g_per_cm3": found.densities[0],
        "density_after_g_per_cm3": found.densities[1],
        "rmsd_A": found.rmsd,
        "rmsd20_A": found.rmsd20,
        "space_group_before": found.space_groups[0],
        "space_group_after": found.space_groups[1],
        "notes": list(found.notes),
    }
    lines = [("formula unit", f"{found.formula}, {found.units} in the cell{_z_prime(found)}"), *_gas(found)]
    lines += _geometry(found) if found.relax != "none" else [("density", f"{found.densities[0]:.4f} g/cm³")]
    if found.space_groups[0] is not None:
        lines.append(("space group", " before, ".join(str(group) for group in found.space_groups) + " after"))
    at = "" if found.long_range_cutoff is None else f" at a long-range cutoff of {found.long_range_cutoff:g} Å"
    lines.append(("E_latt", f"{_energy(found.energy)} per formula unit{at}"))
    if found.energy_without_cutoff is not None:
        lines.append(("no cutoff", f"{_energy(found.energy_without_cutoff)}, estimated by Wolf's self term"))
    if found.pressure != 0.0:
        values["pressure_work_eV"] = found.pressure_work
        lines.append(("P V", f"{_energy(found.pressure_work)}, not in E_latt"))
    if temperature is not None:
        enthalpy = found.sublimation_enthalpy(temperature)
        values |= {"temperature_K": temperature, "sublimation_enthalpy_eV": enthalpy}
        lines.append(("ΔH_sub", f"{_energy(enthalpy)} at {temperature:g} K, {_thermal(found)}"))
    return values, lines


def _energy(value: float) -> str:
    from heliodor.units import KCAL_PER_MOL, KJ_PER_MOL

    return f"{value:+.4f} eV = {value / KJ_PER_MOL:+.2f} kJ/mol = {value / KCAL_PER_MOL:+.3f} kcal/mol"


def _z_prime(found: LatticeEnergy) -> str:
    return "" if found.z_prime is None else f", Z' = {found.z_prime:g}"


def _thermal(found: LatticeEnergy) -> str:
    terms = sum(c.per_unit * (1.0 - 0.5 * c.external) for c in found.components)
    kind = "without cutoff " if found.energy_without_cutoff is not None else ""
    return f"-E_latt {kind}{terms:+g} RT (rigid molecules, classical)"


def _gas(found: LatticeEnergy) -> list[tuple[str, str]]:
    lines = []
    for c in found.components:
        origin = "as given" if c.source == "given" else "from the crystal"
        if len(c.energies) > 1:
            origin += f", lowest of {c.conformers} conformers"
        state = "relaxed" if c.relaxed else "not relaxed"
        lines.append(("alone", f"{c.formula} {origin}, {state}: {c.energy:.6f} eV (model's own zero)"))
    return lines


def _geometry(found: LatticeEnergy) -> list[tuple[str, str]]:
    lines = [("moved", f"RMSD {found.rmsd:.3f} Å, RMSD20 {found.rmsd20:.3f} Å after {found.steps} steps")]
    before, after = found.densities
    if found.relax != "cell":
        return [*lines, ("density", f"{before:.4f} g/cm³")]
    return [
        ("cell before", describe_cell(found.start)),
        ("cell after", describe_cell(found.final)),
        ("volume", f"{found.start.get_volume():.2f} Å³ before, {found.final.get_volume():.2f} Å³ after "
                   f"({found.volume_change:+.2f} %)"),
        ("density", f"{before:.4f} g/cm³ before, {after:.4f} g/cm³ after"),
        *lines,
    ]  # fmt: skip
