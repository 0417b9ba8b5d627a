"""Liquids by their common names: formula, residue name, density."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Compound:
    """A liquid people name rather than write as SMILES.

    Attributes:
        smiles: its formula.
        residue: three letters, those of the PDB's chemical components where there are such.
        density: g/cm³ at 298.15 K and 1 bar.
    """

    smiles: str
    residue: str
    density: float


SOURCE = "CRC Handbook of Chemistry and Physics, 298.15 K"

COMPOUNDS: dict[str, Compound] = {
    "water": Compound("O", "HOH", 0.997),
    "methanol": Compound("CO", "MOH", 0.787),
    "ethanol": Compound("CCO", "EOH", 0.785),
    "1-propanol": Compound("CCCO", "POL", 0.800),
    "2-propanol": Compound("CC(C)O", "IPA", 0.781),
    "1-octanol": Compound("CCCCCCCCO", "OC9", 0.822),
    "ethylene glycol": Compound("OCCO", "EDO", 1.110),
    "glycerol": Compound("OCC(O)CO", "GOL", 1.258),
    "acetonitrile": Compound("CC#N", "CCN", 0.777),
    "acetone": Compound("CC(C)=O", "ACN", 0.784),
    "dmso": Compound("CS(C)=O", "DMS", 1.095),
    "dmf": Compound("CN(C)C=O", "DMF", 0.944),
    "formamide": Compound("NC=O", "ARF", 1.129),
    "acetic acid": Compound("CC(=O)O", "ACY", 1.044),
    "thf": Compound("C1CCOC1", "THF", 0.884),
    "1,4-dioxane": Compound("C1COCCO1", "DIO", 1.028),
    "diethyl ether": Compound("CCOCC", "DET", 0.708),
    "ethyl acetate": Compound("CCOC(C)=O", "EEE", 0.894),
    "chloroform": Compound("ClC(Cl)Cl", "MCH", 1.479),
    "dichloromethane": Compound("ClCCl", "DCM", 1.317),
    "carbon tetrachloride": Compound("ClC(Cl)(Cl)Cl", "CTE", 1.584),
    "benzene": Compound("c1ccccc1", "BNZ", 0.874),
    "toluene": Compound("Cc1ccccc1", "MBN", 0.862),
    "pyridine": Compound("c1ccncc1", "0PY", 0.978),
    "pentane": Compound("CCCCC", "LEN", 0.621),
    "hexane": Compound("CCCCCC", "HEX", 0.655),
    "heptane": Compound("CCCCCCC", "HP6", 0.680),
    "octane": Compound("CCCCCCCC", "OCT", 0.699),
    "cyclohexane": Compound("C1CCCCC1", "CHX", 0.774),
}

ALIASES = {
    "h2o": "water",
    "meoh": "methanol",
    "etoh": "ethanol",
    "isopropanol": "2-propanol",
    "propanol": "1-propanol",
    "octanol": "1-octanol",
    "mecn": "acetonitrile",
    "dimethyl sulfoxide": "dmso",
    "dimethylformamide": "dmf",
    "tetrahydrofuran": "thf",
    "dioxane": "1,4-dioxane",
    "ether": "diethyl ether",
    "dcm": "dichloromethane",
    "n-hexane": "hexane",
}


def known(name: str) -> str | None:
    """The name in `COMPOUNDS` for a name or alias in any case, dashes and underscores for spaces; None if unknown."""
    word = " ".join(name.lower().replace("_", " ").split())
    for trial in (word, word.replace("-", " ")):
        trial = ALIASES.get(trial, trial)
        if trial in COMPOUNDS:
            return trial
    return None
