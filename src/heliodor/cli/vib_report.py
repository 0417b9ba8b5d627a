"""What heliodor vib says and writes at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliodor.analysis.thermochemistry import Thermochemistry
    from heliodor.analysis.vibrations import Vibrations

SHOWN = 120
"""Modes beyond which the table on the screen is cut; the file has all."""

SOFT = 100.0
"""cm⁻¹; below, the harmonic entropy is doubtful."""

DISTURBED = 20.0
"""cm⁻¹; translations and rotations beyond this are worth a note."""


def imaginary_words(modes: Vibrations, animation: Path) -> str | None:
    """What imaginary frequencies mean, and what to do; None where there are none."""
    count = modes.imaginary
    if not count:
        return None
    found = ", ".join(f"{-value:.1f}i" for value in modes.frequencies[: min(count, 5)])
    some = "mode has an imaginary frequency" if count == 1 else "modes have imaginary frequencies"
    kind = "; with exactly one it may be a transition state" if count == 1 else ""
    along = f"mode{'s' if count > 1 else ''} 1{f' to {count}' if count > 1 else ''}"
    return (
        f"{count} {some} ({found}{', ...' if count > 5 else ''} cm⁻¹): the structure is not a minimum, the energy "
        f"falls along {along}{kind}. To go down, relax from a displaced frame: heliodor opt {animation} --frame 4. "
        "Zero-point energy and thermochemistry leave such modes out"
    )


def other_words(modes: Vibrations, thermo: Thermochemistry) -> list[str]:
    """Notes about what is allowed but doubtful."""
    words = []
    disturbed = max((abs(float(value)) for value in modes.overall), default=0.0)
    if disturbed > DISTURBED:
        words.append(
            f"translations and rotations came out at up to {disturbed:.0f} cm⁻¹ before they were projected out: the "
            "structure is not at rest, soft modes are doubtful"
        )
    soft = int(((modes.frequencies > 0.0) & (modes.frequencies < SOFT)).sum())
    if soft:
        words.append(
            f"{soft} mode{'s' if soft > 1 else ''} below {SOFT:g} cm⁻¹: there the harmonic oscillator overrates the "
            "entropy, and the Gibbs energy is off by up to some kJ/mol each"
        )
    hidden = thermo.left_out - modes.imaginary
    if hidden > 0:
        words.append(f"{hidden} real mode{'s' if hidden > 1 else ''} below 1 cm⁻¹ left out of the thermochemistry")
    return words


def print_table(modes: Vibrations) -> None:
    """The modes, one a line."""
    infrared = modes.intensities is not None
    print(f"\n{'mode':>6} {'cm⁻¹':>10} {'red. mass/amu':>14}" + (f" {'IR/(km/mol)':>12}" if infrared else ""))
    for index, value in enumerate(modes.frequencies[:SHOWN]):
        text = f"{-value:.1f}i" if value < 0.0 else f"{value:.1f}"
        strength = f" {modes.intensities[index]:12.2f}" if modes.intensities is not None else ""
        print(f"{index + 1:>6} {text:>10} {modes.reduced_masses[index]:14.3f}{strength}")
    if len(modes.frequencies) > SHOWN:
        print(f"{'...':>6} {len(modes.frequencies) - SHOWN} more in the csv file")
    print()


def thermo_lines(thermo: Thermochemistry, symmetry_number: int) -> list[tuple[str, str]]:
    """Zero-point energy and thermochemistry as lines of (title, text)."""
    from heliodor.units import KCAL_PER_MOL, KJ_PER_MOL

    def both(value: float) -> str:
        return f"{value:+.5f} eV = {value / KJ_PER_MOL:+.2f} kJ/mol = {value / KCAL_PER_MOL:+.2f} kcal/mol"

    gas = thermo.model == "ideal gas"
    model = (
        f"ideal gas, rigid rotor, harmonic oscillators, symmetry number {symmetry_number}"
        if gas
        else "harmonic oscillators only"
    )
    return [
        ("zero point", both(thermo.zero_point_energy)),
        ("conditions", f"{thermo.temperature:g} K, {thermo.pressure:g} bar; {model}; E is the energy at rest"),
        ("U - E", both(thermo.internal_energy)),
        ("H - E", both(thermo.enthalpy)),
        ("S", f"{1e3 * thermo.entropy:.5f} meV/K = {1e3 * thermo.entropy / KJ_PER_MOL:.2f} J/(mol K)"),
        ("G - E", both(thermo.gibbs_energy)),
    ]


def summary(modes: Vibrations, thermo: Thermochemistry) -> dict[str, Any]:
    """What --json prints of them."""
    from heliodor.analysis.spectrum import mode_rows

    return {
        "kind": modes.kind,
        "moving_atoms": [int(index) for index in modes.moving],
        "imaginary_modes": modes.imaginary,
        "modes": mode_rows(modes),
        "projected_out_per_cm": [float(value) for value in modes.overall],
        "zero_point_energy_eV": thermo.zero_point_energy,
        "thermochemistry": {
            "model": thermo.model,
            "temperature_K": thermo.temperature,
            "pressure_bar": thermo.pressure,
            "internal_energy_eV": thermo.internal_energy,
            "enthalpy_eV": thermo.enthalpy,
            "entropy_eV_per_K": thermo.entropy,
            "gibbs_energy_eV": thermo.gibbs_energy,
            "modes_left_out": thermo.left_out,
        },
    }


def write_files(modes: Vibrations, files: dict[str, Path], title: str) -> None:
    """Table, picture and animation; each gets its name when it is complete."""
    import ase.io

    from heliodor.analysis.draw import write_table
    from heliodor.analysis.spectrum import animation, mode_rows, plot_spectrum

    _complete(files["table"], lambda part: write_table(mode_rows(modes), part))
    _complete(files["picture"], lambda part: plot_spectrum(modes, part, title))
    _complete(files["animation"], lambda part: ase.io.write(part, animation(modes), format="extxyz"))


def _complete(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
