"""The twenty amino acids in every protonation state, as SMILES of what is between the caps."""

from __future__ import annotations

SIDES = {
    "GLY": "",
    "ALA": "C",
    "VAL": "C(C)C",
    "LEU": "CC(C)C",
    "ILE": "[C@@H](C)CC",
    "PHE": "Cc1ccccc1",
    "TYR": "Cc1ccc(O)cc1",
    "TYM": "Cc1ccc([O-])cc1",
    "TRP": "Cc1c[nH]c2ccccc12",
    "SER": "CO",
    "THR": "[C@H](O)C",
    "CYS": "CS",
    "CYM": "C[S-]",
    "MET": "CCSC",
    "ASN": "CC(N)=O",
    "GLN": "CCC(N)=O",
    "ASP": "CC(=O)[O-]",
    "ASH": "CC(=O)O",
    "GLU": "CCC(=O)[O-]",
    "GLH": "CCC(=O)O",
    "LYS": "CCCC[NH3+]",
    "LYN": "CCCCN",
    "ARG": "CCCNC(N)=[NH2+]",
    "ARN": "CCCNC(N)=N",
    "HIE": "Cc1c[nH]cn1",
    "HID": "Cc1cnc[nH]1",
    "HIP": "Cc1c[nH]c[nH+]1",
    "PRO": "",
}
"""Side chains by Amber's names of the states; ARN is neutral arginine."""

STATES = tuple(SIDES)

ENDS = {"NH3+": "[NH3+]", "NH2": "N"}
"""Free amino ends."""

ACIDS = {"COO-": "[O-]", "COOH": "O"}
"""Free carboxyl ends."""

FOLDS = ((-63.0, -42.0), (-135.0, 135.0), (-75.0, 150.0), (57.0, 47.0), (-83.0, 70.0), (70.0, -60.0), (-90.0, 0.0))
"""Phi and psi in degrees: alpha, beta, polyproline II, left-handed alpha, C7eq, C7ax, turn."""


def side_chain(name: str) -> str:
    """The side chain with a hydrogen in the place of the alpha carbon; "C" for proline's and glycine's."""
    return SIDES[name].replace("[C@@H]", "C").replace("[C@H]", "C") or "C"


def capped(names: tuple[str, ...]) -> str:
    """SMILES of ACE-names-NME, of L-amino acids."""
    return "CC(=O)" + "".join(map(_inner, names)) + "NC"


def free(name: str, amino: str, acid: str) -> str:
    """SMILES of a single L-amino acid with free ends: keys of `ENDS` and `ACIDS`."""
    end = ACIDS[acid]
    if name == "PRO":
        return f"{'[NH2+]' if amino == 'NH3+' else 'N'}1CCC[C@H]1C(=O){end}"
    return f"{ENDS[amino]}{_alpha(name)}C(=O){end}"


def _inner(name: str) -> str:
    return "N1CCC[C@H]1C(=O)" if name == "PRO" else f"N{_alpha(name)}C(=O)"


def _alpha(name: str) -> str:
    return "C" if name == "GLY" else f"[C@@H]({SIDES[name]})"
