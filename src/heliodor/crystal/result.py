"""What a lattice energy is made of."""

from __future__ import annotations

from dataclasses import dataclass

import ase

from heliodor.crystal.geometry import density
from heliodor.errors import InputError
from heliodor.units import BAR, BOLTZMANN, KCAL_PER_MOL, KJ_PER_MOL


@dataclass(frozen=True)
class Component:
    """One kind of molecule of a crystal, and its gas phase.

    Attributes:
        formula: in Hill order.
        per_unit: molecules in a formula unit.
        conformers: distinct shapes in the crystal as handed in.
        source: what the gas phase was made from: "crystal" or "given".
        relaxed: whether the molecule alone was relaxed.
        energy: of the molecule alone, eV, at the crystal's long-range cutoff.
        energies: of all conformers that were tried, eV; ``energy`` is the lowest.
        own_share: Wolf's self term at the cutoff, eV (`heliodor.crystal.cutoff`); None for models without one.
        atoms: the molecule alone at ``energy``.
        external: translations and rotations: 6, 5 for a linear molecule, 3 for an atom.
        converged: whether its relaxation reached fmax.
    """

    formula: str
    per_unit: int
    conformers: int
    source: str
    relaxed: bool
    energy: float
    energies: tuple[float, ...]
    own_share: float | None
    atoms: ase.Atoms
    external: int
    converged: bool


@dataclass(frozen=True)
class LatticeEnergy:
    """Lattice energy of a molecular crystal, E_crystal/Z - Σ E_gas (negative: bound), and how it came about.

    Attributes:
        energy: eV per formula unit; electronic, without pressure's work and without vibrations.
        units: formula units in the cell, Z.
        components: the kinds of molecules.
        crystal_energy: eV per cell, of ``final``.
        cutoff_correction: eV per formula unit, to be added to ``energy`` for the model without long-range cutoff
            (`heliodor.crystal.cutoff`); None for models whose long-range terms are unknown here or that have none.
        start: the crystal as handed in.
        final: the crystal as relaxed, with energy (eV) and forces (eV/Å) at hand as ASE's calculator results.
        relax: "cell", "positions" or "none".
        pressure: bar.
        long_range_cutoff: Å, of crystal and gas phase alike; None for models without long-range terms.
        steps: of the crystal's relaxation.
        fmax: largest force left in the crystal, eV/Å; None without relaxation.
        converged: whether the crystal's and all molecules' relaxations reached what was asked.
        reason: why the crystal's relaxation was given up, if it was.
        rmsd: of all positions against the start, Å (`heliodor.crystal.geometry.rmsd_positions`).
        rmsd20: of 20 molecules, superimposed, without hydrogens, Å.
        space_groups: before and after, with spglib installed.
        z_prime: formula units per asymmetric unit at the start, with spglib installed.
        notes: what the user should know, in words.
    """

    energy: float
    units: int
    components: tuple[Component, ...]
    crystal_energy: float
    cutoff_correction: float | None
    start: ase.Atoms
    final: ase.Atoms
    relax: str
    pressure: float
    long_range_cutoff: float | None
    steps: int
    fmax: float | None
    converged: bool
    reason: str
    rmsd: float
    rmsd20: float
    space_groups: tuple[str | None, str | None]
    z_prime: float | None
    notes: tuple[str, ...]

    @property
    def kj_per_mol(self) -> float:
        """``energy`` in kJ per mol of formula units."""
        return self.energy / KJ_PER_MOL

    @property
    def kcal_per_mol(self) -> float:
        """``energy`` in kcal per mol of formula units."""
        return self.energy / KCAL_PER_MOL

    @property
    def energy_without_cutoff(self) -> float | None:
        """``energy`` with its cutoff correction, eV per formula unit; None where that is None."""
        return None if self.cutoff_correction is None else self.energy + self.cutoff_correction

    @property
    def formula(self) -> str:
        """Of a formula unit: ``"CH4N2O"``, ``"2 CH4 + H2O"``."""
        parts = [f"{c.per_unit} {c.formula}" if c.per_unit > 1 else c.formula for c in self.components]
        return " + ".join(parts)

    @property
    def volume_change(self) -> float:
        """Final over initial volume minus one, in per cent."""
        return 100.0 * (self.final.get_volume() / self.start.get_volume() - 1.0)

    @property
    def densities(self) -> tuple[float, float]:
        """Before and after, g/cm³."""
        return density(self.start), density(self.final)

    @property
    def pressure_work(self) -> float:
        """P·V per formula unit, eV: add it to ``energy`` for an enthalpy against a gas at zero pressure."""
        return self.pressure * BAR * float(self.final.get_volume()) / self.units

    def sublimation_enthalpy(self, temperature: float) -> float:
        """ΔH_sub(T) = -E_latt - 2RT for rigid non-linear molecules, in eV per formula unit (positive: bound).

        E_latt is that without cutoff where it is known, else ``energy``.

        With f external degrees of freedom a molecule has f/2 RT of kinetic energy and RT of pV in the ideal gas, and
        f RT in a classical harmonic crystal; inner vibrations are taken to be the same in both, zero-point energy
        included, and the crystal's pV is left out. So each molecule adds RT(1 - f/2): -2RT for f = 6, -3/2 RT for a
        linear molecule, -1/2 RT for an atom. The form with 2RT for all is that of Otero-de-la-Roza and Johnson
        (J. Chem. Phys. 137, 054103 (2012)) before phonons; the references of Reilly and Tkatchenko (J. Chem. Phys.
        139, 024705 (2013)) and X23b (Dolgonos, Hoja, Boese, Phys. Chem. Chem. Phys. 21, 24333 (2019)) have harmonic
        vibrations in the place of it, which change it by some kJ/mol.

        Args:
            temperature: K.

        Raises:
            InputError: a temperature that is not above zero.
        """
        if not 0.0 < temperature < float("inf"):
            raise InputError(f"temperature must be a positive number of kelvins, not {temperature:g}")
        thermal = sum(c.per_unit * (1.0 - 0.5 * c.external) for c in self.components)
        energy = self.energy if self.energy_without_cutoff is None else self.energy_without_cutoff
        return -energy + thermal * BOLTZMANN * temperature
