"""Neutral molecules to begin with: small ones, scaffolds, drug-like ones, and substituents (SMILES)."""

# ruff: noqa: SIM905 (lists of SMILES read better as text)

from __future__ import annotations

TINY: tuple[str, ...] = tuple(
    """
[H][H] N#N O=C=O C N O S F Cl FF ClCl FCl P C#N [C-]#[O+] CO C=O C#C C=C CC O=S=O O=C=S S=C=S OO NN N=N NO C=N CN CS
CP CF CCl C(F)(F)F FC(F)(F)F ClC(Cl)(Cl)Cl C(Cl)Cl C(Cl)(Cl)Cl FCCl CC#N C=C=C C=C=O C#CC C1CC1 C1=CC1 C1CO1 C1CN1
C1CS1 SS OF OCl NCl NF N=C=O N=C=S ClN(Cl)Cl FN(F)F FP(F)F ClP(Cl)Cl FOF ClOCl FS(F)(=O)=O FSF ClSCl C(=O)O C(=O)N
CC=O COC CCO CNC CCN CSC CSS CC(C)=O CC(=O)O CC(N)=O NC(N)=O NC(N)=S COC=O CC(=O)OC CN(C)C [N-]=[N+]=O C[N+](=O)[O-]
O[N+](=O)[O-] ON=O C=[N+]=[N-] CN=[N+]=[N-] C[N+]#[C-] OP(=O)(O)O OS(=O)(=O)O P#P C#P O=S(=O)=O CS(C)=O CS(C)(=O)=O
CP(C)C CC(=O)F CC(=O)Cl O=C(Cl)Cl O=C(F)F C=CF C=CCl C#CF C#CCl N#CC#N C#CC#N C=CC=C CC#CC CCC CCCC CC(C)C CC=C
c1ccccc1 O=CC=O OC(=O)C(=O)O OC(=O)O NC=N NC(N)=N N#CN FC=O ClC=O S=C
""".split()
)
"""Molecules of two to ten heavy atoms with bonds of every kind between the teacher's elements."""

SCAFFOLDS: tuple[str, ...] = tuple(
    """
CCC CCCC CC(C)C CCCCC CC(C)(C)C CCCCCC C1CC1 C1CCC1 C1CCCC1 C1CCCCC1 C1CCCCCC1 C1CC2CCC1C2 CC=C CC=CC C=CC=C CC(C)=C
C1=CCCC1 C1=CCCCC1 C1C=CC=C1 C1C=CCC=C1 CC#C CC#CC C#CC=C c1ccccc1 Cc1ccccc1 C=Cc1ccccc1 C#Cc1ccccc1 c1ccc2ccccc2c1
c1ccc(-c2ccccc2)cc1 c1ccc2[nH]ccc2c1 c1ccncc1 c1cncnc1 c1cnccn1 c1ccnnc1 c1ncncn1 c1cnc[nH]1 c1cn[nH]c1 c1cscn1
c1cnsc1 c1ccsc1 c1ccoc1 c1cocn1 c1cnoc1 c1cc[nH]c1 c1nc[nH]n1 c1nnn[nH]1 c1nncs1 c1nnco1 c1ccc2ncccc2c1 c1ccc2cnccc2c1
c1ccc2occc2c1 c1ccc2sccc2c1 c1ccc2[nH]cnc2c1 c1ccc2[nH]ncc2c1 c1ccc2scnc2c1 c1ccc2ocnc2c1 c1ncc2nc[nH]c2n1 C1CCNC1
C1CCNCC1 C1COCCN1 C1CNCCN1 C1CSCCN1 C1CNC1 C1CN1 C1CO1 C1COC1 C1CCOC1 C1CCOCC1 C1COCCO1 C1OCCO1 C1CCSC1 C1CCSCC1
C1CSCCS1 C1CS1 O=C1CCC1 O=C1CCCC1 O=C1CCCCC1 O=C1CCCN1 O=C1CCCCN1 O=C1CCN1 O=C1CCCO1 O=C1CCCCO1 O=C1CCC(=O)N1
O=C1NC(=O)CC(=O)N1 O=C1NCCN1 O=C1NC(=O)CN1 O=C1OCCN1 O=C1OCCO1 O=C1C=CC(=O)N1 O=C1C=CC(=O)O1 O=C1CCC(=O)O1
O=C1C=CC(=O)C=C1 O=c1cc[nH]c(=O)[nH]1 O=c1cc[nH]cn1 O=c1cccc[nH]1 O=c1ccocc1 O=c1ccc2ccccc2o1 CC=O CCC=O CC(C)=O
CCC(C)=O CC(=O)C(C)=O CC(=O)CC(C)=O C=CC=O C=CC(C)=O CC(=O)O CCC(=O)O OC(=O)CC(=O)O C=CC(=O)O CC(O)C(=O)O CC(=O)C(=O)O
COC=O COC(C)=O CCOC(C)=O C=CC(=O)OC CC(=O)OC(C)=O NC=O CC(N)=O CNC(C)=O CN(C)C=O CCC(=O)NC CNC(=O)NC CNC(N)=O NC(N)=S
COC(N)=O COC(=O)NC COC(=O)OC CC(=O)SC CC(=S)N CC(=O)NO CC(=O)NN CC=NO CC(C)=NO CC=NN CC=NC CON=CC CC(=N)N CNC(N)=N CCO
CC(C)O OCCO OCC(O)CO COC CCOC COCCO COCOC CCOO COOC CN CNC CN(C)C NCCN NCCO CNN CNO CON N=NC CN=NC CS CCS CSC CSSC
CSSSC SCCO SCCS CS(C)=O CS(=O)O CS(C)(=O)=O CS(N)(=O)=O CNS(C)(=O)=O COS(C)(=O)=O COS(=O)(=O)OC CS(=O)(=O)O
NS(N)(=O)=O CS(=O)(=O)c1ccccc1 NS(=O)(=O)c1ccccc1 CS(=O)c1ccccc1 CSc1ccccc1 C#N CC#N CCC#N C=CC#N N#CCC#N N#Cc1ccccc1
C[N+](=O)[O-] O=[N+]([O-])c1ccccc1 CO[N+](=O)[O-] CON=O CN[N+](=O)[O-] CN=[N+]=[N-] CC=[N+]=[N-] CN=C=O CN=C=S CSC#N
COC#N CP CPC CP(C)C c1ccc(P)cc1 CP(C)(C)=O CP(=O)(O)O CP(=O)(OC)OC COP(=O)(O)O COP(=O)(OC)OC COP(OC)OC CP(C)(=O)O
NP(=O)(O)O COP(=O)(N)OC CP(C)(C)=S COP(=S)(OC)OC OP(=O)(O)OP(=O)(O)O CF CCF FCF CC(F)F CC(F)(F)F CCl CCCl ClCCl
CC(Cl)Cl C=CF C=CCl Fc1ccccc1 Clc1ccccc1 Oc1ccccc1 Nc1ccccc1 COc1ccccc1 Sc1ccccc1 O=Cc1ccccc1 OC(=O)c1ccccc1
NC(=O)c1ccccc1 CC(=O)Nc1ccccc1 c1ccc(N=Nc2ccccc2)cc1 CN=Nc1ccccc1 ON=Cc1ccccc1 C(=Nc1ccccc1)c1ccccc1 CC(=O)c1ccccc1
CC(=O)Oc1ccccc1 COC(=O)c1ccccc1 OCc1ccccc1 NCc1ccccc1 c1ccc(Oc2ccccc2)cc1 c1ccc(Nc2ccccc2)cc1 O=C(c1ccccc1)c1ccccc1
OCC1OCC(O)C1O OC1CCOC(CO)C1O OCC1OC(O)C(O)C(O)C1O NCC(=O)O CC(N)C(=O)O NCC(N)=O NC(CO)C(=O)O CN1CCCC1 CN1CCOCC1
CN1CCNCC1
""".split()
)
"""Chains, rings and functional groups that substituents are hung on."""

DRUGLIKE: tuple[str, ...] = tuple(
    r"""
CC(=O)Nc1ccc(O)cc1 CC(=O)Oc1ccccc1C(=O)O CC(C)Cc1ccc(cc1)C(C)C(=O)O Cn1cnc2c1c(=O)n(C)c(=O)n2C c1ccc(/N=N/c2ccccc2)cc1
c1ccc(/N=N\c2ccccc2)cc1 Nc1ncnc2nc[nH]c12 Nc1nc2nc[nH]c2c(=O)[nH]1 Nc1cc[nH]c(=O)n1 Cc1c[nH]c(=O)[nH]c1=O
O=c1cc[nH]c(=O)[nH]1 Cn1cnc2c(N)ncnc12 Cc1cn(C)c(=O)[nH]c1=O OC(=O)c1ccccc1O O=CC=CO CCO NC(N)=O Cc1ccccc1
c1ccc2ccccc2c1 c1ccccc1 OC[C@H]1O[C@@H](n2cnc3c(N)ncnc32)C[C@@H]1O OC[C@H]1O[C@@H](n2ccc(=O)[nH]c2=O)[C@H](O)[C@@H]1O
OC[C@H]1O[C@@H](n2ccc(N)nc2=O)[C@H](O)[C@@H]1O Cc1cn([C@@H]2C[C@H](O)[C@@H](CO)O2)c(=O)[nH]c1=O
OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O OC[C@H]1OC(O)[C@H](O)[C@@H]1O CO[C@@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1O
CN1CCC[C@H]1c1cccnc1 CCN(CC)CC(=O)Nc1c(C)cccc1C NC(=O)c1cccnc1 NNC(=O)c1ccncc1 CC(=O)NCCc1c[nH]c2ccc(OC)cc12
NCCc1ccc(O)c(O)c1 NCCc1c[nH]c2ccc(O)cc12 CNC[C@H](O)c1ccc(O)c(O)c1 CC(N)Cc1ccccc1 Cc1ncc([N+](=O)[O-])n1CCO
Nc1ccc(S(N)(=O)=O)cc1 Nc1ccc(S(=O)(=O)Nc2ncccn2)cc1 CCOC(=O)c1ccc(N)cc1 COc1cc(C=O)ccc1O CC1=CCC(CC1)C(C)=C
CC1(C)C2CCC1(C)C(=O)C2 COc1ccc2cc(ccc2c1)C(C)C(=O)O CC(C)NCC(O)COc1ccccc1 OC(=O)c1ccccc1Nc1ccccc1
O=C1NC(=O)C(c2ccccc2)(c2ccccc2)N1 CCC1(CC)C(=O)NC(=O)NC1=O Fc1c[nH]c(=O)[nH]c1=O CC(=O)SCCNC(C)=O
OC(=O)CCCCC1SCC2NC(=O)NC12 Nc1ncnc2[nH]cnc12 S=c1[nH]cnc2nc[nH]c12 Cn1c(=O)c2[nH]cnc2n(C)c1=O
Clc1ccc(cc1)C(c1ccccc1)N1CCNCC1 OCC(NC(=O)C(Cl)Cl)C(O)c1ccccc1 CP(=O)(OC)OCC COP(=S)(OC)Oc1ccccc1 OCC(O)COP(=O)(O)O
CC(=O)CP(=O)(OC)OC c1ccc(P(c2ccccc2)c2ccccc2)cc1 CSCCC(=O)NC C1CC2CCC1CC2 C1C2CC3CC1CC(C2)C3 O=S1(=O)CCCC1
O=S1(=O)NC(=O)c2ccccc21 CC(C)=CCCC(C)=CCO CCCCCCCC CCCCCCO CCCCCC(=O)O CCCCCCN COCCOCCOC CCOCC FC(F)(F)c1ccccc1
FC(F)(F)C(=O)O FC(F)(F)CO ClC(Cl)(Cl)C=O Clc1ccc(Cl)cc1 Fc1c(F)c(F)c(F)c(F)c1F FC(F)(F)C(F)(F)F FC(F)=C(F)F
ClC(Cl)=CCl FC(Cl)(Cl)Cl FC(F)Cl O=C(O)c1ccccc1O CN1CCC(CC1)c1ccccc1 COc1ccc(CCN)cc1 CC(C)(C)NCC(O)c1ccc(O)c(CO)c1
Clc1ccccc1C1=NCC(=O)Nc2ccccc12 CN(C)CCc1c[nH]c2ccccc12 O=C(O)Cc1ccccc1Nc1c(Cl)cccc1Cl
CC(=O)CC(c1ccccc1)c1c(O)c2ccccc2oc1=O CC1(C)SC2C(NC(=O)C)C(=O)N2C1C(=O)O Nc1nc(N)nc(N)n1 Clc1nc(Cl)nc(Cl)n1
O=C1c2ccccc2C(=O)N1C CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21 COP(=O)(OC)OC=C(Cl)Cl CCN(CC)P(=O)(Cl)OC
FC(F)(F)c1ccc(Oc2ccccc2)cc1 O=S(=O)(c1ccccc1)N1CCOCC1 CC(C)c1nnc(N)s1 O=c1[nH]c2ccccc2n1C Cc1ccc(S(=O)(=O)NC(=O)NC)cc1
N#Cc1ccc(F)cc1Cl O=[N+]([O-])c1ccc(Cl)cc1 CSc1nc(N)nc(N)n1 O=C(NC1CC1)c1cncs1 CC1CN(C)CCN1c1ncccn1
""".split()
)
"""Drugs, natural products, solvents and halogenated molecules."""

SUBSTITUENTS: tuple[str, ...] = tuple(
    """
C C C CC C(C)C C(C)(C)C C=C C#C C1CC1 CO COC CN C(=O)O C(=O)OC C(=O)N C(=O)NC C(=O)N(C)C C=O C(C)=O C#N CC#N CS CCO
CCN CCS CF CCl C(F)F C(F)(F)F C(Cl)(Cl)Cl F F F Cl Cl Cl O O OC OC=O OC(C)=O N N NC N(C)C NC=O NC(C)=O NC(N)=O
NS(C)(=O)=O [N+](=O)[O-] S SC S(C)=O S(C)(=O)=O S(N)(=O)=O P P(C)C P(C)(C)=O P(=O)(O)O P(=O)(OC)OC OP(=O)(O)O
OS(C)(=O)=O SSC N=NC N=[N+]=[N-] NO ON c1ccccc1 c1ccncc1 c1ccco1 c1cccs1 c1cnc[nH]1 N1CCOCC1 N1CCCC1 Cc1ccccc1 C=NO
CC(=O)O CC(N)=O CC(=O)NC C(=O)C OC(F)(F)F SF SCl N=C=O N=C=S C(=S)N C(=O)F C(=O)Cl
""".split()
)
"""Groups; the first atom is bonded to the scaffold. Some are named more often, to be drawn more often."""
