"""Ions and charged groups (SMILES)."""

# ruff: noqa: SIM905 (lists of SMILES read better as text)

from __future__ import annotations

CHARGED: tuple[str, ...] = tuple(
    """
[NH3+] [NH3+] C[NH3+] C[NH2+]C [N+](C)(C)C C[N+](C)(C)C CNC(N)=[NH2+] C(=O)[O-] C(=O)[O-] CC(=O)[O-] [O-] [S-] C[S-]
S(=O)(=O)[O-] OS(=O)(=O)[O-] P(=O)(O)[O-] OP(=O)(O)[O-] OP(=O)([O-])[O-] C[P+](C)(C)C C[S+](C)C c1c[nH]c[nH+]1
C(N)=[NH2+]
""".split()
)
"""Charged groups; the first atom is bonded to the scaffold."""

IONS: tuple[str, ...] = tuple(
    """
[OH-] [OH3+] [NH4+] C[NH3+] C[NH2+]C C[NH+](C)C C[N+](C)(C)C CC[NH3+] CC(C)[NH3+] OCC[NH3+] [NH3+]CC[NH3+]
C[N+](C)(C)CCO NC(N)=[NH2+] CNC(N)=[NH2+] CC(N)=[NH2+] C[OH2+] C=[OH+] CC(C)=[OH+] C[P+](C)(C)C [PH4+] C[S+](C)C
C[SH2+] [SH3+] c1c[nH]c[nH+]1 Cc1c[nH]c[nH+]1 C[n+]1cc[nH]c1 Cn1cc[n+](C)c1 CCn1cc[n+](C)c1 c1cc[nH+]cc1 C[n+]1ccccc1
C1CC[NH2+]C1 C1CC[NH2+]CC1 C1COCC[NH2+]1 C1C[NH2+]CCN1 [NH3+]c1ccccc1 [NH3+]Cc1ccccc1 CC#[NH+] C#[NH+] C(=O)[O-]
CC(=O)[O-] CCC(=O)[O-] OCC(=O)[O-] CC(O)C(=O)[O-] C=CC(=O)[O-] CC(=O)C(=O)[O-] FC(F)(F)C(=O)[O-] ClCC(=O)[O-]
[O-]C(=O)C(=O)O [O-]C(=O)CC(=O)[O-] [O-]C(=O)CCC(=O)[O-] [O-]C(=O)c1ccccc1 OC(=O)[O-] NC(=O)[O-] C[O-] CC[O-]
FC(F)(F)C[O-] [O-]c1ccccc1 [O-]c1ccc(cc1)[N+](=O)[O-] C[S-] CC[S-] [S-]c1ccccc1 CC(=O)[S-] [SH-] O[O-] [C-]#N N#C[S-]
N#C[O-] [N-]=[N+]=[N-] [O-][N+](=O)[O-] [O-]N=O OP(=O)(O)[O-] OP(=O)([O-])[O-] COP(=O)(O)[O-] COP(=O)([O-])[O-]
COP(=O)([O-])OC CP(=O)(O)[O-] CP(C)(=O)[O-] OP(=O)([O-])OP(=O)(O)O OS(=O)(=O)[O-] [O-]S(=O)(=O)[O-] COS(=O)(=O)[O-]
CS(=O)(=O)[O-] FC(F)(F)S(=O)(=O)[O-] CS(=O)[O-] OS(=O)[O-] [O-]S(=O)(=O)c1ccccc1 CC(=O)[CH-]C(C)=O c1cc[n-]c1
c1c[n-]cn1 C[NH-] [NH2-] CS(=O)(=O)[N-]S(C)(=O)=O O=c1cc[n-]c(=O)[nH]1 [NH3+]CC(=O)[O-] C[C@H]([NH3+])C(=O)[O-]
[NH3+]CCC(=O)[O-] OC[C@H]([NH3+])C(=O)[O-] C[NH2+]CC(=O)[O-] C[N+](C)(C)CC(=O)[O-] C[C@H]([NH3+])C(=O)O
C[C@H](N)C(=O)[O-] [NH3+]CCS(=O)(=O)[O-] OC(=O)[C@@H]([NH3+])CS [O-][Cl+3]([O-])([O-])[O-] [Cl-] [F-]
C[C@H]([NH3+])C(=O)NC CC(=O)N[C@@H](C)C(=O)[O-] [NH3+]CC(=O)NCC(=O)[O-] C[N+]#N ClCC[NH3+] FCC[NH3+] SCC[NH3+]
Clc1ccc([O-])cc1 Fc1ccc(C(=O)[O-])cc1 Nc1ncnc2[nH]c[nH+]c12 Nc1cc[nH]c(=O)[nH+]1 OC[C@@H](O)COP(=O)([O-])[O-]
""".split()
)
"""Ions and zwitterions that the teacher's elements allow."""

ANIONS: tuple[str, ...] = tuple(
    """
[Cl-] [F-] [OH-] O=C[O-] CC(=O)[O-] CCC(=O)[O-] OP(=O)(O)[O-] OP(=O)([O-])[O-] COP(=O)([O-])OC OS(=O)(=O)[O-]
[O-]S(=O)(=O)[O-] CS(=O)(=O)[O-] COS(=O)(=O)[O-] [O-][N+](=O)[O-] OC(=O)[O-] C[S-] [O-]c1ccccc1 [O-]c1ccc(C)cc1 C[O-]
FC(F)(F)C(=O)[O-] [C-]#N N#C[S-] [O-]C(=O)C(=O)O COP(=O)(O)[O-] COP(=O)([O-])[O-]
""".split()
)
"""Small anions for salts and for boxes of water."""

CATIONS: tuple[str, ...] = tuple(
    """
[NH4+] [OH3+] C[NH3+] CC[NH3+] CCCC[NH3+] C[NH2+]C C[NH+](C)C C[N+](C)(C)C C[N+](C)(C)CCO NC(N)=[NH2+] CNC(N)=[NH2+]
c1c[nH]c[nH+]1 Cc1c[nH]c[nH+]1 c1cc[nH+]cc1 CC(N)=[NH2+] C1CC[NH2+]C1 C[S+](C)C C[P+](C)(C)C OCC[NH3+]
""".split()
)
"""Small cations for salts and for boxes of water."""
