"""What heliodor scan says at the end: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ase

    from heliodor.scan.profile import Profile
    from heliodor.scan.result import Scan

Lines = list[tuple[str, str]]


def report(
    scan: Scan, reference: Profile | None, geometries: Sequence[ase.Atoms] | None
) -> tuple[dict[str, Any], Lines]:
    """The result as JSON and as lines of (title, text)."""
    from heliodor.units import KCAL_PER_MOL, KJ_PER_MOL

    relative = scan.relative
    steps = sum(one.steps for one in scan.relaxations)
    result: dict[str, Any] = {
        "complete": scan.complete,
        "dihedrals": [list(r.atoms) for r in scan.rotors],
        "angles_deg": scan.angles.tolist(),
        "relative_energy_eV": relative.ravel().tolist(),
        "relative_energy_kcal_per_mol": (relative.ravel() / KCAL_PER_MOL).tolist(),
        "relative_energy_kJ_per_mol": (relative.ravel() / KJ_PER_MOL).tolist(),
        "relaxations": len(scan.relaxations),
        "failed_relaxations": len(scan.failures),
        "energy_calls": steps,
        "missing_deg": [list(angles) for angles in scan.missing],
    }
    known = int((scan.lowest >= 0).sum())
    failed = f", {len(scan.failures)} failed" if scan.failures else ""
    lines: Lines = [
        ("points", f"{known} of {scan.lowest.size}"),
        ("effort", f"{len(scan.relaxations)} relaxations{failed}, {steps} energies"),
    ]
    if known == 0:
        return result, lines
    if len(scan.axes) == 1 and known >= 4:
        _profile(scan, reference, result, lines)
    else:
        lines.append(("span", f"{_both(float(relative[relative == relative].max()))} from lowest to highest point"))
    if geometries is not None:
        import numpy as np

        away = scan.rmsd(geometries)
        result["rmsd_A"] = away.ravel().tolist()
        result["mean_rmsd_A"] = float(np.nanmean(away))
        lines.append(
            (
                "geometries",
                f"RMSD {np.nanmean(away):.3f} Å on average, {np.nanmax(away):.3f} Å at most, "
                f"at {int(np.isfinite(away).sum())} points",
            )
        )
    return result, lines


def _profile(scan: Scan, reference: Profile | None, result: dict[str, Any], lines: Lines) -> None:
    from heliodor.scan.profile import Profile, compare
    from heliodor.units import KCAL_PER_MOL

    profile = Profile.of(scan)
    minima, maxima = profile.extrema()
    for name, found in (("minima", minima), ("maxima", maxima)):
        result[name] = [{"angle_deg": e.angle, "relative_energy_kcal_per_mol": e.energy / KCAL_PER_MOL} for e in found]
        lines += [(name[:-1] + "um", f"{e.angle:8.1f}°  {_both(e.energy)}") for e in found] if name == "minima" else []
    result["barriers"] = []
    for barrier in profile.barriers():
        result["barriers"].append(
            {
                "from_deg": barrier.start.angle,
                "top_deg": barrier.top.angle,
                "to_deg": barrier.end.angle,
                "forward_kcal_per_mol": barrier.forward / KCAL_PER_MOL,
                "backward_kcal_per_mol": barrier.backward / KCAL_PER_MOL,
            }
        )
        lines.append(
            (
                "barrier",
                f"{barrier.top.angle:8.1f}°  {_both(barrier.forward)} from {barrier.start.angle:.1f}°, "
                f"{barrier.backward / KCAL_PER_MOL:.3f} kcal/mol from {barrier.end.angle:.1f}°",
            )
        )
    result["height_kcal_per_mol"] = profile.height / KCAL_PER_MOL
    lines.append(("height", f"{_both(profile.height)} from the lowest to the highest point"))
    if reference is not None:
        found_against = compare(profile, reference)
        result["reference"] = {
            "height_kcal_per_mol": found_against.reference_height / KCAL_PER_MOL,
            "height_error_kcal_per_mol": found_against.error / KCAL_PER_MOL,
            "profile_rmsd_kcal_per_mol": found_against.rmsd / KCAL_PER_MOL,
            "tops": [
                {
                    "angle_deg": angle,
                    "reference_kcal_per_mol": theirs / KCAL_PER_MOL,
                    "kcal_per_mol": ours / KCAL_PER_MOL,
                }
                for angle, theirs, ours in found_against.tops
            ],
        }
        lines.append(
            (
                "reference",
                f"height {found_against.reference_height / KCAL_PER_MOL:.3f} kcal/mol: "
                f"error {found_against.error / KCAL_PER_MOL:+.3f}; profile RMSD "
                f"{found_against.rmsd / KCAL_PER_MOL:.3f} kcal/mol after the best offset",
            )
        )


def _both(energy: float) -> str:
    from heliodor.units import KCAL_PER_MOL, KJ_PER_MOL

    # no minus sign before a zero
    return f"{round(energy / KCAL_PER_MOL, 3) + 0.0:.3f} kcal/mol = {round(energy / KJ_PER_MOL, 3) + 0.0:.3f} kJ/mol"
