"""Peptides and proteins: helical hydrogen bonds, secondary structure, backbone angles, torsions, RMSD, ³J couplings."""

from __future__ import annotations

from heliodor.analysis.proteins import (
    couplings,
    deviation,
    dihedral_populations,
    hydrogen_bonds,
    ramachandran,
    secondary,
)
from heliodor.analysis.proteins.backbone import missing
from heliodor.analysis.show import Analysis
from heliodor.trajectory.trajectory import Trajectory


def _too_few(trajectory: Trajectory) -> str | None:
    return None if trajectory.n_atoms >= 4 else f"it has {trajectory.n_atoms} atoms and a torsion takes four"


ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        name="helix_bonds",
        title="Helical hydrogen bonds",
        about="hydrogen bonds i→i+2 to i→i+5 of a peptide's backbone per frame, by energy and by geometry",
        unfit=hydrogen_bonds.unfit,
        show=hydrogen_bonds.show,
    ),
    Analysis(
        name="secondary_structure",
        title="Secondary structure",
        about="DSSP and STRIDE-like letters of each residue along time, as a map",
        unfit=missing,
        show=secondary.show,
    ),
    Analysis(
        name="ramachandran",
        title="Backbone angles φ and ψ",
        about="map of φ and ψ with reference points, populations of its regions, averages of each residue",
        unfit=ramachandran.unfit,
        show=ramachandran.show,
    ),
    Analysis(
        name="rmsd",
        title="RMSD and RMSF",
        about="RMSD of the whole, of chains, helices, strands or ranges of residues, and RMSF of each residue",
        unfit=missing,
        show=deviation.show,
    ),
    Analysis(
        name="torsions",
        title="Torsions",
        about="distributions of φ, ψ, ω and χ, populations of rotamers",
        unfit=missing,
        show=dihedral_populations.show,
    ),
    Analysis(
        name="couplings",
        title="³J couplings from φ",
        about="NMR couplings ³J of the backbone by Karplus relations, with experiment for short polyalanines",
        unfit=couplings.unfit,
        show=couplings.show,
    ),
    Analysis(
        name="dihedral",
        title="Torsions of given atoms",
        about="distribution of torsions of any four atoms: atoms=0,1,2,3",
        unfit=_too_few,
        show=dihedral_populations.show_given,
        usual=False,
    ),
)
