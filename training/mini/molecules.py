"""Chemistry lists for the training structures: SMILES of molecules and ions, and capped peptides.

Everything is H, C, N, O, F, P, S, Cl, closed shell.  Larger variety is made by hanging substituents on the
scaffolds (`combine`).  Sizes are counted in atoms including hydrogen.
"""

# ruff: noqa: SIM905 (lists of SMILES read better as text)

import numpy as np
from rdkit import Chem, RDLogger

RDLogger.DisableLog("rdApp.*")

ELEMENTS = {1, 6, 7, 8, 9, 15, 16, 17}

# Diatomics and their equilibrium bond lengths in Å (no force field is used for them).
DIATOMIC = {
    "[H][H]": 0.741, "N#N": 1.098, "[C-]#[O+]": 1.128, "F": 0.917, "Cl": 1.275, "FF": 1.412, "ClCl": 1.988,
    "FCl": 1.628, "[OH-]": 0.964, "[C-]#N": 1.177, "[SH-]": 1.343,
}  # fmt: skip

TINY = """[H][H] N#N O=C=O C N O S F Cl FF ClCl FCl P C#N [C-]#[O+] CO C=O C#C C=C CC O=S=O O=C=S S=C=S OO NN N=N NO
C=N CN CS CP CF CCl C(F)(F)F FC(F)(F)F ClC(Cl)(Cl)Cl C(Cl)Cl C(Cl)(Cl)Cl FCCl CC#N C=C=C C=C=O C#CC C1CC1 C1=CC1
C1CO1 C1CN1 C1CS1 SS OF OCl NCl NF N=C=O N=C=S ClN(Cl)Cl FN(F)F FP(F)F ClP(Cl)Cl FOF ClOCl FS(F)(=O)=O FSF ClSCl
C(=O)O C(=O)N CC=O COC CCO CNC CCN CSC CSS CC(C)=O CC(=O)O CC(N)=O NC(N)=O NC(N)=S COC=O CC(=O)OC CN(C)C
[N-]=[N+]=O C[N+](=O)[O-] O[N+](=O)[O-] ON=O C=[N+]=[N-] CN=[N+]=[N-] C[N+]#[C-] OP(=O)(O)O OS(=O)(=O)O P#P C#P
O=S(=O)=O CS(C)=O CS(C)(=O)=O CP(C)C CC(=O)F CC(=O)Cl O=C(Cl)Cl O=C(F)F C=CF C=CCl C#CF C#CCl N#CC#N C#CC#N
C=CC=C CC#CC CCC CCCC CC(C)C CC=C c1ccccc1 O=CC=O OC(=O)C(=O)O OC(=O)O NC=N NC(N)=N N#CN FC=O ClC=O S=C""".split()

SCAFFOLDS = """CCC CCCC CC(C)C CCCCC CC(C)(C)C CCCCCC C1CC1 C1CCC1 C1CCCC1 C1CCCCC1 C1CCCCCC1 C1CC2CCC1C2 CC=C CC=CC
C=CC=C CC(C)=C C1=CCCC1 C1=CCCCC1 C1C=CC=C1 C1C=CCC=C1 CC#C CC#CC C#CC=C c1ccccc1 Cc1ccccc1 C=Cc1ccccc1 C#Cc1ccccc1
c1ccc2ccccc2c1 c1ccc(-c2ccccc2)cc1 c1ccc2[nH]ccc2c1 c1ccncc1 c1cncnc1 c1cnccn1 c1ccnnc1 c1ncncn1 c1cnc[nH]1
c1cn[nH]c1 c1cscn1 c1cnsc1 c1ccsc1 c1ccoc1 c1cocn1 c1cnoc1 c1cc[nH]c1 c1nc[nH]n1 c1nnn[nH]1 c1nncs1 c1nnco1
c1ccc2ncccc2c1 c1ccc2cnccc2c1 c1ccc2occc2c1 c1ccc2sccc2c1 c1ccc2[nH]cnc2c1 c1ccc2[nH]ncc2c1 c1ccc2scnc2c1 c1ccc2ocnc2c1
c1ncc2nc[nH]c2n1 C1CCNC1 C1CCNCC1 C1COCCN1 C1CNCCN1 C1CSCCN1 C1CNC1 C1CN1 C1CO1 C1COC1 C1CCOC1 C1CCOCC1 C1COCCO1 C1OCCO1
C1CCSC1 C1CCSCC1 C1CSCCS1 C1CS1 O=C1CCC1 O=C1CCCC1 O=C1CCCCC1 O=C1CCCN1 O=C1CCCCN1 O=C1CCN1 O=C1CCCO1 O=C1CCCCO1
O=C1CCC(=O)N1 O=C1NC(=O)CC(=O)N1 O=C1NCCN1 O=C1NC(=O)CN1 O=C1OCCN1 O=C1OCCO1 O=C1C=CC(=O)N1 O=C1C=CC(=O)O1 O=C1CCC(=O)O1
O=C1C=CC(=O)C=C1 O=c1cc[nH]c(=O)[nH]1 O=c1cc[nH]cn1 O=c1cccc[nH]1 O=c1ccocc1 O=c1ccc2ccccc2o1 CC=O CCC=O CC(C)=O CCC(C)=O
CC(=O)C(C)=O CC(=O)CC(C)=O C=CC=O C=CC(C)=O CC(=O)O CCC(=O)O OC(=O)CC(=O)O C=CC(=O)O CC(O)C(=O)O CC(=O)C(=O)O COC=O
COC(C)=O CCOC(C)=O C=CC(=O)OC CC(=O)OC(C)=O NC=O CC(N)=O CNC(C)=O CN(C)C=O CCC(=O)NC CNC(=O)NC CNC(N)=O NC(N)=S
COC(N)=O COC(=O)NC COC(=O)OC CC(=O)SC CC(=S)N CC(=O)NO CC(=O)NN CC=NO CC(C)=NO CC=NN CC=NC CON=CC CC(=N)N CNC(N)=N CCO CC(C)O
OCCO OCC(O)CO COC CCOC COCCO COCOC CCOO COOC CN CNC CN(C)C NCCN NCCO CNN CNO CON N=NC CN=NC CS CCS CSC CSSC CSSSC
SCCO SCCS CS(C)=O CS(=O)O CS(C)(=O)=O CS(N)(=O)=O CNS(C)(=O)=O COS(C)(=O)=O COS(=O)(=O)OC CS(=O)(=O)O NS(N)(=O)=O
CS(=O)(=O)c1ccccc1 NS(=O)(=O)c1ccccc1 CS(=O)c1ccccc1 CSc1ccccc1 C#N CC#N CCC#N C=CC#N N#CCC#N N#Cc1ccccc1 C[N+](=O)[O-]
O=[N+]([O-])c1ccccc1 CO[N+](=O)[O-] CON=O CN[N+](=O)[O-] CN=[N+]=[N-] CC=[N+]=[N-] CN=C=O CN=C=S CSC#N COC#N CP CPC CP(C)C
c1ccc(P)cc1 CP(C)(C)=O CP(=O)(O)O CP(=O)(OC)OC COP(=O)(O)O COP(=O)(OC)OC COP(OC)OC CP(C)(=O)O NP(=O)(O)O COP(=O)(N)OC
CP(C)(C)=S COP(=S)(OC)OC OP(=O)(O)OP(=O)(O)O CF CCF FCF CC(F)F CC(F)(F)F CCl CCCl ClCCl CC(Cl)Cl C=CF C=CCl Fc1ccccc1 Clc1ccccc1
Oc1ccccc1 Nc1ccccc1 COc1ccccc1 Sc1ccccc1 O=Cc1ccccc1 OC(=O)c1ccccc1 NC(=O)c1ccccc1 CC(=O)Nc1ccccc1 c1ccc(N=Nc2ccccc2)cc1
CN=Nc1ccccc1 ON=Cc1ccccc1 C(=Nc1ccccc1)c1ccccc1 CC(=O)c1ccccc1 CC(=O)Oc1ccccc1 COC(=O)c1ccccc1 OCc1ccccc1 NCc1ccccc1
c1ccc(Oc2ccccc2)cc1 c1ccc(Nc2ccccc2)cc1 O=C(c1ccccc1)c1ccccc1 OCC1OCC(O)C1O OC1CCOC(CO)C1O OCC1OC(O)C(O)C(O)C1O
NCC(=O)O CC(N)C(=O)O NCC(N)=O NC(CO)C(=O)O CN1CCCC1 CN1CCOCC1 CN1CCNCC1""".split()

NAMED = {
    "paracetamol": "CC(=O)Nc1ccc(O)cc1", "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "azobenzene": "c1ccc(/N=N/c2ccccc2)cc1", "azobenzene_cis": "c1ccc(/N=N\\c2ccccc2)cc1",
    "adenine": "Nc1ncnc2nc[nH]c12", "guanine": "Nc1nc2nc[nH]c2c(=O)[nH]1", "cytosine": "Nc1cc[nH]c(=O)n1",
    "thymine": "Cc1c[nH]c(=O)[nH]c1=O", "uracil": "O=c1cc[nH]c(=O)[nH]1",
    "9-methyladenine": "Cn1cnc2c(N)ncnc12", "1-methylthymine": "Cc1cn(C)c(=O)[nH]c1=O",
    "salicylic_acid": "OC(=O)c1ccccc1O", "malondialdehyde": "O=CC=CO", "ethanol": "CCO", "urea": "NC(N)=O",
    "toluene": "Cc1ccccc1", "naphthalene": "c1ccc2ccccc2c1", "benzene": "c1ccccc1",
}  # fmt: skip

DRUGLIKE = """OC[C@H]1O[C@@H](n2cnc3c(N)ncnc32)C[C@@H]1O OC[C@H]1O[C@@H](n2ccc(=O)[nH]c2=O)[C@H](O)[C@@H]1O
OC[C@H]1O[C@@H](n2ccc(N)nc2=O)[C@H](O)[C@@H]1O Cc1cn([C@@H]2C[C@H](O)[C@@H](CO)O2)c(=O)[nH]c1=O
OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O OC[C@H]1OC(O)[C@H](O)[C@@H]1O CO[C@@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1O
CN1CCC[C@H]1c1cccnc1 CCN(CC)CC(=O)Nc1c(C)cccc1C NC(=O)c1cccnc1 NNC(=O)c1ccncc1 CC(=O)NCCc1c[nH]c2ccc(OC)cc12
NCCc1ccc(O)c(O)c1 NCCc1c[nH]c2ccc(O)cc12 CNC[C@H](O)c1ccc(O)c(O)c1 CC(N)Cc1ccccc1 Cc1ncc([N+](=O)[O-])n1CCO
Nc1ccc(S(N)(=O)=O)cc1 Nc1ccc(S(=O)(=O)Nc2ncccn2)cc1 CCOC(=O)c1ccc(N)cc1 COc1cc(C=O)ccc1O CC1=CCC(CC1)C(C)=C
CC1(C)C2CCC1(C)C(=O)C2 COc1ccc2cc(ccc2c1)C(C)C(=O)O CC(C)NCC(O)COc1ccccc1 OC(=O)c1ccccc1Nc1ccccc1
O=C1NC(=O)C(c2ccccc2)(c2ccccc2)N1 CCC1(CC)C(=O)NC(=O)NC1=O Fc1c[nH]c(=O)[nH]c1=O CC(=O)SCCNC(C)=O OC(=O)CCCCC1SCC2NC(=O)NC12
Nc1ncnc2[nH]cnc12 S=c1[nH]cnc2nc[nH]c12 Cn1c(=O)c2[nH]cnc2n(C)c1=O Clc1ccc(cc1)C(c1ccccc1)N1CCNCC1 OCC(NC(=O)C(Cl)Cl)C(O)c1ccccc1
CP(=O)(OC)OCC COP(=S)(OC)Oc1ccccc1 OCC(O)COP(=O)(O)O CC(=O)CP(=O)(OC)OC c1ccc(P(c2ccccc2)c2ccccc2)cc1 CSCCC(=O)NC
C1CC2CCC1CC2 C1C2CC3CC1CC(C2)C3 O=S1(=O)CCCC1 O=S1(=O)NC(=O)c2ccccc21 CC(C)=CCCC(C)=CCO
CCCCCCCC CCCCCCO CCCCCC(=O)O CCCCCCN COCCOCCOC CCOCC FC(F)(F)c1ccccc1 FC(F)(F)C(=O)O FC(F)(F)CO ClC(Cl)(Cl)C=O Clc1ccc(Cl)cc1
Fc1c(F)c(F)c(F)c(F)c1F FC(F)(F)C(F)(F)F FC(F)=C(F)F ClC(Cl)=CCl FC(Cl)(Cl)Cl FC(F)Cl""".split()

# The first atom of a substituent is the one that is bonded to the scaffold.
SUBSTITUENTS = """C C C CC C(C)C C(C)(C)C C=C C#C C1CC1 CO COC CN C(=O)O C(=O)OC C(=O)N C(=O)NC C(=O)N(C)C C=O C(C)=O
C#N CC#N CS CCO CCN CCS CF CCl C(F)F C(F)(F)F C(Cl)(Cl)Cl F F F Cl Cl Cl O O OC OC=O OC(C)=O N N NC N(C)C NC=O
NC(C)=O NC(N)=O NS(C)(=O)=O [N+](=O)[O-] S SC S(C)=O S(C)(=O)=O S(N)(=O)=O P P(C)C P(C)(C)=O P(=O)(O)O P(=O)(OC)OC
OP(=O)(O)O OS(C)(=O)=O SSC N=NC N=[N+]=[N-] NO ON c1ccccc1 c1ccncc1 c1ccco1 c1cccs1 c1cnc[nH]1 N1CCOCC1 N1CCCC1
Cc1ccccc1 C=NO CC(=O)O CC(N)=O CC(=O)NC C(=O)C OC(F)(F)F SF SCl N=C=O N=C=S C(=S)N C(=O)F C(=O)Cl""".split()
CHARGED = """[NH3+] [NH3+] C[NH3+] C[NH2+]C [N+](C)(C)C C[N+](C)(C)C CNC(N)=[NH2+] C(=O)[O-] C(=O)[O-] CC(=O)[O-] [O-]
[S-] C[S-] S(=O)(=O)[O-] OS(=O)(=O)[O-] P(=O)(O)[O-] OP(=O)(O)[O-] OP(=O)([O-])[O-] C[P+](C)(C)C C[S+](C)C
c1c[nH]c[nH+]1 C(N)=[NH2+]""".split()

IONS = """[OH-] [OH3+] [NH4+] C[NH3+] C[NH2+]C C[NH+](C)C C[N+](C)(C)C CC[NH3+] CC(C)[NH3+] OCC[NH3+] [NH3+]CC[NH3+]
C[N+](C)(C)CCO NC(N)=[NH2+] CNC(N)=[NH2+] CC(N)=[NH2+] C[OH2+] C=[OH+] CC(C)=[OH+] C[P+](C)(C)C [PH4+] C[S+](C)C
C[SH2+] [SH3+] c1c[nH]c[nH+]1 Cc1c[nH]c[nH+]1 C[n+]1cc[nH]c1 Cn1cc[n+](C)c1 CCn1cc[n+](C)c1 c1cc[nH+]cc1 C[n+]1ccccc1
C1CC[NH2+]C1 C1CC[NH2+]CC1 C1COCC[NH2+]1 C1C[NH2+]CCN1 [NH3+]c1ccccc1 [NH3+]Cc1ccccc1 CC#[NH+] C#[NH+]
C(=O)[O-] CC(=O)[O-] CCC(=O)[O-] OCC(=O)[O-] CC(O)C(=O)[O-] C=CC(=O)[O-] CC(=O)C(=O)[O-] FC(F)(F)C(=O)[O-]
ClCC(=O)[O-] [O-]C(=O)C(=O)O [O-]C(=O)CC(=O)[O-] [O-]C(=O)CCC(=O)[O-] [O-]C(=O)c1ccccc1 OC(=O)[O-] NC(=O)[O-]
C[O-] CC[O-] FC(F)(F)C[O-] [O-]c1ccccc1 [O-]c1ccc(cc1)[N+](=O)[O-] C[S-] CC[S-] [S-]c1ccccc1 CC(=O)[S-] [SH-] O[O-]
[C-]#N N#C[S-] N#C[O-] [N-]=[N+]=[N-] [O-][N+](=O)[O-] [O-]N=O OP(=O)(O)[O-] OP(=O)([O-])[O-]
COP(=O)(O)[O-] COP(=O)([O-])[O-] COP(=O)([O-])OC CP(=O)(O)[O-] CP(C)(=O)[O-] OP(=O)([O-])OP(=O)(O)O OS(=O)(=O)[O-]
[O-]S(=O)(=O)[O-] COS(=O)(=O)[O-] CS(=O)(=O)[O-] FC(F)(F)S(=O)(=O)[O-] CS(=O)[O-] OS(=O)[O-] [O-]S(=O)(=O)c1ccccc1
CC(=O)[CH-]C(C)=O c1cc[n-]c1 c1c[n-]cn1 C[NH-] [NH2-] CS(=O)(=O)[N-]S(C)(=O)=O O=c1cc[n-]c(=O)[nH]1
[NH3+]CC(=O)[O-] C[C@H]([NH3+])C(=O)[O-] [NH3+]CCC(=O)[O-] OC[C@H]([NH3+])C(=O)[O-] C[NH2+]CC(=O)[O-] C[N+](C)(C)CC(=O)[O-]
C[C@H]([NH3+])C(=O)O C[C@H](N)C(=O)[O-] [NH3+]CCS(=O)(=O)[O-] OC(=O)[C@@H]([NH3+])CS [O-][Cl+3]([O-])([O-])[O-]
[Cl-] [F-] C[C@H]([NH3+])C(=O)NC CC(=O)N[C@@H](C)C(=O)[O-] [NH3+]CC(=O)NCC(=O)[O-] C[N+]#N ClCC[NH3+] FCC[NH3+] SCC[NH3+]
Clc1ccc([O-])cc1 Fc1ccc(C(=O)[O-])cc1 Nc1ncnc2[nH]c[nH+]c12 Nc1cc[nH]c(=O)[nH+]1 OC[C@@H](O)COP(=O)([O-])[O-]""".split()

RESIDUES = {
    "G": "C", "A": "C", "V": "C(C)C", "L": "CC(C)C", "I": "C(C)CC", "F": "Cc1ccccc1", "Y": "Cc1ccc(O)cc1",
    "W": "Cc1c[nH]c2ccccc12", "S": "CO", "T": "C(C)O", "C": "CS", "M": "CCSC", "N": "CC(N)=O", "Q": "CCC(N)=O",
    "D": "CC(=O)[O-]", "E": "CCC(=O)[O-]", "K": "CCCC[NH3+]", "R": "CCCNC(N)=[NH2+]", "HIE": "Cc1c[nH]cn1",
    "HID": "Cc1cnc[nH]1", "HIP": "Cc1c[nH]c[nH+]1", "ASH": "CC(=O)O", "GLH": "CCC(=O)O", "LYN": "CCCCN",
    "ARN": "CCCN=C(N)N", "CYM": "C[S-]", "TYM": "Cc1ccc([O-])cc1", "P": "",
}  # fmt: skip


def peptide(residues):
    """SMILES of ACE-residues-NME; `residues` is a list of names in RESIDUES (L amino acids)."""
    text = "CC(=O)"
    for name in residues:
        if name == "G":
            text += "NCC(=O)"
        elif name == "P":
            text += "N1CCC[C@H]1C(=O)"
        else:
            text += f"N[C@@H]({RESIDUES[name]})C(=O)"
    return text + "NC"


def electrons(mol):
    return sum(a.GetAtomicNum() for a in mol.GetAtoms()) - Chem.GetFormalCharge(mol)


def canonical(smiles, max_atoms=60):
    """Canonical SMILES, or None if it cannot be read, is open shell, or has another element."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or "." in smiles:
        return None
    full = Chem.AddHs(mol)
    if any(a.GetAtomicNum() not in ELEMENTS or a.GetNumRadicalElectrons() for a in full.GetAtoms()):
        return None
    if electrons(full) % 2 or full.GetNumAtoms() > max_atoms:
        return None
    return Chem.MolToSmiles(mol)


def attach(smiles, substituent, rng):
    """Replace a random hydrogen of `smiles` by `substituent`; None when that makes no sensible molecule."""
    mol, group = Chem.MolFromSmiles(smiles), Chem.MolFromSmiles(substituent)
    first = group.GetAtomWithIdx(0)
    oxidised = first.GetSymbol() in "PS" and any(b.GetBondTypeAsDouble() == 2 for b in first.GetBonds())
    sites = [
        a.GetIdx()
        for a in mol.GetAtoms()
        if a.GetTotalNumHs() > 0
        and a.GetFormalCharge() == 0
        and (a.GetSymbol() == "C" or first.GetSymbol() == "C" or (oxidised and a.GetSymbol() in "NO"))
    ]
    if not sites:
        return None
    site = int(rng.choice(sites))
    edit = Chem.RWMol(Chem.CombineMols(mol, group))
    edit.AddBond(site, mol.GetNumAtoms(), Chem.BondType.SINGLE)
    for index in (site, mol.GetNumAtoms()):
        atom = edit.GetAtomWithIdx(index)
        if index == site and atom.GetNumExplicitHs():
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    try:
        Chem.SanitizeMol(edit)
    except ValueError:
        return None
    return Chem.MolToSmiles(edit)


def combine(rng, wanted, known, charged=False, max_atoms=42):
    """New canonical SMILES: scaffolds with one to three substituents (one of them charged if `charged`)."""
    found = []
    for _ in range(60 * wanted):
        if len(found) >= wanted:
            break
        smiles = str(rng.choice(SCAFFOLDS))
        groups = list(rng.choice(SUBSTITUENTS, size=rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])))
        if charged:
            groups = [*groups[: int(rng.integers(0, 2))], rng.choice(CHARGED)]
        for group in groups:
            smiles = smiles and attach(smiles, str(group), rng)
        smiles = smiles and canonical(smiles, max_atoms if rng.random() < 0.25 else 28)
        if smiles and smiles not in known:
            known.add(smiles)
            found.append(smiles)
    return found


def neutral_molecules(rng, wanted):
    """Neutral molecules, hand-written ones first, then combinations, `wanted` in all."""
    listed = list(NAMED.values()) + TINY + SCAFFOLDS + DRUGLIKE
    result = list(dict.fromkeys(s for s in map(canonical, listed) if s))
    result = [s for s in result if Chem.GetFormalCharge(Chem.MolFromSmiles(s)) == 0]
    return result + combine(rng, max(0, wanted - len(result)), set(result))


def ions(rng, wanted):
    """Charged molecules and zwitterions."""
    result = list(dict.fromkeys(s for s in map(canonical, IONS) if s))
    return result + combine(rng, max(0, wanted - len(result)), set(result), charged=True, max_atoms=36)


def peptides(rng):
    """[(SMILES, weight, always_train)]: weights sum to about 6000 (structures at scale 1)."""
    table = {}

    def add(names, weight, keep=False):
        table.setdefault(canonical(peptide(names), 70), (weight, keep))

    for count, weight in ((1, 300), (2, 200), (3, 450), (4, 250)):
        add(["A"] * count, weight, True)
    for count, weight in ((1, 100), (2, 50), (3, 60), (4, 40)):
        add(["G"] * count, weight, True)
    for names in ("AG", "GA", "AAG", "AGA", "GAA", "GAG", "AGAA"):
        add(list(names), 40, len(names) == 3)
    for name in RESIDUES:
        add([name], 60)
    for name in RESIDUES:
        for pair in (["A", name], [name, "A"], ["G", name]):
            add(pair, 23)
    while len(table) < 170:
        add([str(x) for x in rng.choice(list(RESIDUES), size=2)], 20)
    return [(smiles, *entry) for smiles, entry in table.items()]


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    print(len(neutral_molecules(generator, 1050)), len(ions(generator, 220)), len(peptides(generator)))
    print("unreadable:", [s for s in TINY + SCAFFOLDS + DRUGLIKE + IONS if not canonical(s)])
    print(sum(w for _, w, _ in peptides(generator)))
