"""New data (paracetamol, labelled by SO3LR) and structures that heliodor-mini shall not forget (labelled by itself)."""

import ase.io
from ase.build import molecule

import heliodor
from heliodor.label.label import Label
from heliodor.train.dataset import Dataset

frames = []
for seed in range(40):
    atoms = ase.io.read("../paracetamol.xyz")
    atoms.rattle(0.05, seed=seed)
    frames.append(atoms)
teacher = heliodor.load("so3lr", device="cpu")
labels = []
for atoms in frames:
    answer = heliodor.evaluate(teacher, atoms)
    labels.append(Label(energy=float(answer.energy[0]), forces=answer.forces.double().numpy()))
Dataset.from_atoms(frames, labels, method="SO3LR").write("out/new.h5")

old = []
for name in ("H2O", "CH3CONH2", "CH3OCH3", "C6H6", "C5H5N", "CH3COOH", "C4H4O", "CH3NO2"):
    for seed in range(5):
        atoms = molecule(name)
        atoms.rattle(0.05, seed=seed)
        atoms.info["group"] = name
        old.append(atoms)
ase.io.write("out/old.xyz", old, format="extxyz")
