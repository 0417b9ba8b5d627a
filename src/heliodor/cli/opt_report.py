"""What heliodor opt says at the end: for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliodor.cli.common import describe_cell

if TYPE_CHECKING:
    import ase

    from heliodor.dynamics.relax.minimize import Minimized


def report(relaxed: Minimized, atoms: ase.Atoms) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The result of relaxing ``atoms`` as JSON and as lines of (title, text)."""
    from heliodor.units import KCAL_PER_MOL

    before, after = float(relaxed.energies[0, 0]), float(relaxed.energy[0])
    largest, converged = float(relaxed.fmax[0]), bool(relaxed.converged[0])
    change = after - before
    result: dict[str, Any] = {
        "converged": converged,
        "steps": relaxed.steps,
        "fmax_eV_per_A": largest,
        "relative_energy_before_eV": before,
        "relative_energy_after_eV": after,
        "energy_change_eV": change,
    }
    lines = [
        ("energy", f"{before:.6f} eV before, {after:.6f} eV after (model's own zero)"),
        ("change", f"{change:+.6f} eV = {change / KCAL_PER_MOL:+.3f} kcal/mol"),
    ]
    if relaxed.stress_deviation is not None:
        cell_result, cell_lines = _report_cell(relaxed, atoms)
        result |= cell_result
        lines += cell_lines
    verdict = f"largest {largest:.4g} eV/Å after {relaxed.steps} steps, {'' if converged else 'not '}converged"
    return result, [*lines, ("force", verdict)]


def _report_cell(relaxed: Minimized, atoms: ase.Atoms) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    from heliodor.units import GRAM_PER_CM3

    assert relaxed.stress_deviation is not None
    final = atoms.copy()
    final.cell[:] = relaxed.system.cell[0].cpu().numpy()
    off = float(relaxed.stress_deviation[0])
    result: dict[str, Any] = {"stress_deviation_GPa": off}
    lines = []
    for when, frame in (("before", atoms), ("after", final)):
        result[f"cell_{when}"] = [float(x) for x in frame.cell.cellpar()]
        lines.append((f"cell {when}", describe_cell(frame)))
    if atoms.pbc.all():
        change = float(relaxed.enthalpy[0] - relaxed.enthalpies[0, 0])
        volumes = [float(frame.get_volume()) for frame in (atoms, final)]
        densities = [float(atoms.get_masses().sum()) / volume / GRAM_PER_CM3 for volume in volumes]
        for when, volume, density in zip(("before", "after"), volumes, densities, strict=True):
            result |= {f"volume_{when}_A3": volume, f"density_{when}_g_per_cm3": density}
        result["enthalpy_change_eV"] = change
        lines += [
            ("volume", f"{volumes[0]:.2f} Å³ before, {volumes[1]:.2f} Å³ after"),
            ("density", f"{densities[0]:.4f} g/cm³ before, {densities[1]:.4f} g/cm³ after"),
            ("enthalpy", f"{change:+.6f} eV"),
        ]
    pressure = ""
    if relaxed.pressure is not None:
        result["pressure_bar"] = float(relaxed.pressure[0])
        pressure = f"pressure {float(relaxed.pressure[0]):.1f} bar, "
    return result, [*lines, ("stress", f"{pressure}largest deviation {off:.4g} GPa")]
