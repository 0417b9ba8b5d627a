"""Families of sugars and of pieces of lipids."""

from __future__ import annotations

import ase
import numpy as np

from heliodor.distil.structures.molecules import geometries

SUGARS = """OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O
OC[C@H]1O[C@H](O)[C@H](O)[C@@H](O)[C@@H]1O OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@H]1O
OC[C@H]1O[C@H](O)[C@H](O)[C@@H](O)[C@H]1O OC[C@H]1O[C@@H](O)[C@@H](O)[C@@H](O)[C@@H]1O
OC[C@H]1O[C@H](O)[C@@H](O)[C@@H](O)[C@@H]1O CO[C@@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1O
CO[C@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1O OC1CO[C@@H](O)[C@H](O)[C@H]1O
C[C@@H]1O[C@@H](O)[C@@H](O)[C@H](O)[C@@H]1O CC(=O)N[C@H]1C(O)O[C@H](CO)[C@@H](O)[C@@H]1O
OC1O[C@H](C(=O)[O-])[C@@H](O)[C@H](O)[C@H]1O OC1O[C@H](C(=O)O)[C@@H](O)[C@H](O)[C@H]1O
[NH3+][C@H]1C(O)O[C@H](CO)[C@@H](O)[C@@H]1O OC[C@H]1OC(O)[C@H](O)[C@@H]1O
OC[C@H]1OC(O)C[C@@H]1O OC[C@@H]1OC(O)(CO)[C@@H](O)[C@@H]1O
OCC1(O)OC[C@@H](O)[C@@H](O)[C@@H]1O C1CCOCC1 OC1CCCCO1 COC1CCCCO1 OC1CCOCC1 OCC1CCCCO1
OC1COCCC1O OC1CCCOC1CO COC1OCCC(O)C1O OC[C@@H](O)[C@H](O)[C@@H](O)C=O
COC1OC(CO)C(OS(=O)(=O)[O-])C(O)C1O OC1OC(COP(=O)(O)[O-])C(O)C(O)C1O C1CCC(OC2CCCCO2)CC1
C1COC(OC2CCOCC2)CC1
OC[C@H]1O[C@@H](O[C@H]2[C@H](O)[C@@H](O)[C@@H](O)O[C@@H]2CO)[C@H](O)[C@@H](O)[C@@H]1O
OC[C@H]1O[C@H](O[C@H]2[C@H](O)[C@@H](O)[C@@H](O)O[C@@H]2CO)[C@H](O)[C@@H](O)[C@@H]1O""".split()  # noqa: SIM905
"""Pyranoses of both anomers, methyl glycosides, amino and acid sugars, furanoses, bare rings, two disaccharides."""

LIPIDS = """CCCC CCCCC CCCCCC CCCCCCCC CCCCCCCCCC CCCCCCCCCCCC CC/C=C\\CC CCC/C=C\\CCC
CC/C=C\\C/C=C\\CC CC(C)CCCC(C)C COC(C)=O CCOC(C)=O CCCC(=O)OC CCCCCC(=O)OC CCCCCCCC(=O)OC
CC(=O)OCC(C)OC(C)=O CC(=O)OCC(COC(C)=O)OC(C)=O CCCC(=O)OCC(CO)OC(=O)CCC OCC(O)CO
CCCCCCCC(=O)O CCCCCCCC(=O)[O-] CCCCCC(=O)[O-] COCC(C)OC C[N+](C)(C)CCOP(=O)([O-])OC
C[N+](C)(C)CCO C[N+](C)(C)CCOP(=O)([O-])OCC(O)CO [NH3+]CCOP(=O)([O-])OC
[NH3+]CCOP(=O)([O-])OCC(O)CO COP(=O)([O-])OC COP(=O)([O-])OCC(O)CO
COP(=O)([O-])OCC(COC(C)=O)OC(C)=O COP(=O)([O-])OCC([NH3+])C(=O)[O-] COP(=O)(O)OC
CCCCOP(=O)([O-])OC C[N+](C)(C)CCOP(=O)([O-])OCC(COC(C)=O)OC(C)=O CC(=O)NC(CO)C(O)C=CC
CC(=O)N[C@@H](COP(=O)([O-])OC)[C@H](O)C=C C1CCC2CCCCC2C1 C1CCC2C(C1)CCC1CCCC12
CC12CCC(O)CC1=CCCC2 CC(C)CCCC(C)C1CCCC1 CC1=C(C)CCCC1(C)C""".split()  # noqa: SIM905
"""Alkanes and cis alkenes, esters, glycerides, fatty acids, headgroups (choline, ethanolamine, serine, glycerol),
ceramide, and pieces of sterols."""


def sugars(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Each sugar in turn."""
    return geometries(SUGARS[item * 5 % len(SUGARS)], rng, count, "sugar")


def lipids(rng: np.random.Generator, item: int, count: int) -> list[ase.Atoms]:
    """Each piece in turn."""
    return geometries(LIPIDS[item * 7 % len(LIPIDS)], rng, count, "lipid")
