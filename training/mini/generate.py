"""Unlabelled structures for training heliodor-mini by distillation.

    python generate.py --out DIR [--seed 0] [--scale 1.0] [--prefix structures] [--preview look.extxyz]

Writes DIR/<prefix>_{train,valid,test}.npz.  Arrays: positions [Ntot, 3] Å, numbers [Ntot], offsets [S+1],
cell [S, 3, 3] Å (zeros if none), pbc [S, 3], charge [S] (e), spin [S] (unpaired electrons, 0), kind [S],
molecule [S] (SMILES or name).  Splits are by molecule; every dimer takes both partners from its own split, with
water and the ions/molecules of `SHARED` allowed in all.  Needs numpy, scipy, rdkit.
"""

# ruff: noqa: I001 (neighbouring modules sort differently from other folders)

import argparse
import time
from pathlib import Path

import numpy as np
from rdkit import Chem

import molecules
import water
from dynamics import COVALENT, relax_together, sample, separation, sound, topology

SPLITS = ("train", "valid", "test")
SHARED = ("O", "[Cl-]", "[F-]")  # may partner with molecules of any split
FULL = {"molecule": 9000, "ion": 1500, "box": 500, "cluster": 3000, "dimer": 4000}
KINDS = ("molecule", "ion", "peptide", "water", "dimer")


class Collection:
    """The structures of one split."""

    def __init__(self):
        self.rows = []

    def add(self, positions, numbers, charge, kind, name, cell=None):
        centre = 0 if cell is not None else positions.mean(0)
        self.rows.append((positions - centre, numbers, charge, kind, name, cell))

    def save(self, path):
        rows = self.rows
        sizes = [len(row[1]) for row in rows]
        np.savez_compressed(
            path,
            positions=np.concatenate([row[0] for row in rows]).astype(np.float64),
            numbers=np.concatenate([row[1] for row in rows]).astype(np.int16),
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            cell=np.stack([np.zeros((3, 3)) if row[5] is None else row[5] for row in rows]),
            pbc=np.array([[row[5] is not None] * 3 for row in rows]),
            charge=np.array([row[2] for row in rows], int),
            spin=np.zeros(len(rows), int),
            kind=np.array([row[3] for row in rows]),
            molecule=np.array([row[4] for row in rows]),
        )


def draw_split(rng):
    return SPLITS[int(rng.choice(3, p=[0.92, 0.04, 0.04]))]


def random_round(x, rng):
    return int(np.floor(x + rng.random()))


def monomers(args, rng, out):
    """Fill in molecules, ions and peptides; returns the pools of monomers for the dimers, one per split."""
    pools = {split: [] for split in SPLITS}
    always_train = {molecules.canonical(s) for s in molecules.TINY + list(molecules.NAMED.values())}
    work = []
    neutral, charged = molecules.neutral_molecules(rng, args.molecules), molecules.ions(rng, args.ions)
    for kind, names in (("molecule", neutral), ("ion", charged)):
        each = FULL[kind] * args.scale / len(names)
        work += [(kind, s, random_round(each, rng), s in always_train) for s in names]
    for smiles, weight, keep in [] if args.chemistry_only else molecules.peptides(rng):
        work.append(("peptide", smiles, random_round(weight * args.scale, rng), keep))
    failed = []
    for index, (kind, smiles, wanted, keep) in enumerate(work):
        own = np.random.default_rng([args.sampling_seed, 1, index])
        split = draw_split(own)
        split = "train" if keep else split
        if kind != "peptide":
            wanted = max(wanted, 1)
        if wanted == 0:
            continue
        # more geometries for the dimers than are kept here
        spare = 0 if kind == "peptide" else 60 if smiles == "O" else 3 if args.chemistry_only else 6
        mol, frames = sample(smiles, max(wanted, spare), own, per_run=3, backbone=kind == "peptide")
        if not frames:
            failed.append(smiles)
            continue
        numbers, charge = topology(mol)[0], Chem.GetFormalCharge(mol)
        for x in frames[:wanted]:
            out[split].add(x, numbers, charge, kind, smiles)
        if kind != "peptide" and len(numbers) <= 20:
            for target in SPLITS if smiles in SHARED else [split]:
                pools[target].append((smiles, mol, numbers, charge, frames))
    print(f"no structure for {len(failed)}: {failed[:20]}")
    return pools


def waters(args, rng, out):
    """Clusters of 1-12 waters and periodic boxes of 12-32; each trajectory belongs to one split."""
    snapshots = 10 if args.scale > 0.5 else 6
    numbers = {n: np.tile([8, 1, 1], n) for n in range(1, 33)}
    shapes = {n: topology(Chem.AddHs(Chem.MolFromSmiles(".".join("O" * n)))) for n in numbers}

    def check(x, n):
        order = np.concatenate([3 * np.arange(n), np.delete(np.arange(3 * n), np.s_[::3])])  # RDKit: all O first
        return sound(x[order], shapes[n])

    jobs = [(water.clusters, n, FULL["cluster"] / 12) for n in range(1, 13)]
    sizes = (12, 14, 16, 18, 20, 24, 27, 32)
    jobs += [(water.boxes, n, FULL["box"] / len(sizes)) for n in sizes]
    for index, (source, n, amount) in enumerate(jobs):
        own = np.random.default_rng([args.sampling_seed, 2, index])
        replicas = max(1, round(amount * args.scale / snapshots))
        split = [draw_split(own) for _ in range(replicas)]
        for x, *rest in source(own, n, replicas, snapshots):
            if own.random() < 0.15:
                x = x + own.normal(0, own.uniform(0.02, 0.05), x.shape)
            if check(x, n):
                cell = rest[0] if len(rest) == 2 else None
                where = rest[-1]
                label = f"water{n}_{'box' if cell is not None else 'cluster'}_{where}"
                out[split[where]].add(x, numbers[n], 0, "water", label, cell)


def dimers(args, rng, out, pools):
    """Pairs of monomers at random orientation, half of them run on MMFF; a tenth are solutes with 3-8 waters."""
    water_entry = next(e for e in pools["train"] if e[0] == "O")
    weights = {}
    for split, pool in pools.items():
        size = np.array([len(e[2]) for e in pool])
        charged = np.array([e[3] != 0 for e in pool])
        weights[split] = np.exp(-np.maximum(size - 6, 0) / 6.0) * np.where(charged, 2.0, 1.0)
        weights[split] /= weights[split].sum()
    wanted, made, tries = int(FULL["dimer"] * args.scale), 0, 0
    while made < wanted and tries < 3 * wanted:
        tries += 1
        own = np.random.default_rng([args.sampling_seed, 3, tries])
        split = draw_split(own)
        pool = pools[split]
        first = pool[own.choice(len(pool), p=weights[split])]
        second = water_entry if own.random() < 0.25 else pool[own.choice(len(pool), p=weights[split])]
        group = [first, second]
        if own.random() < 0.1:
            group = [first] + [water_entry] * int(own.integers(3, 9))
        entry = place(group, own)
        if entry is not None:
            positions, numbers, charge = entry
            out[split].add(positions, numbers, charge, "dimer", ".".join(e[0] for e in group))
            made += 1


def place(group, rng):
    """Put the monomers of `group` together; (positions, numbers, charge), or None if the result is not sound."""
    parts, mols, charges = [], [], []
    many = len(group) > 2
    for _, mol, numbers, charge, frames in group:
        x = frames[rng.integers(len(frames))]
        x = (x - x.mean(0)) @ water.random_rotation(rng).T
        if parts:
            contact = rng.uniform(1.6, 3.5) if rng.random() < 0.8 else rng.uniform(3.5, 6.0)
            contact = rng.uniform(1.7, 2.3) if many else contact
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            placed = np.concatenate(parts)
            present = np.concatenate([e[2] for e in group[: len(parts)]])
            # Only a start outside everything is wanted, so the far root of each pair is the right one.
            x = x + direction * separation(placed, present, x, numbers, direction, contact, 2.6)
        parts.append(x)
        mols.append(mol)
        charges.append(charge)
    numbers = np.concatenate([e[2] for e in group])
    positions = np.concatenate(parts)
    if abs(sum(charges)) > 2:
        return None
    like = len(group) == 2 and charges[0] * charges[1] > 0
    if many or (not like and rng.random() < 0.5):
        temperature = float(rng.choice([100.0, 200.0, 300.0, 400.0, 500.0]))
        result = relax_together(mols, parts, rng, temperature, int(rng.integers(150, 500)))
        if result is not None:
            positions = result[1]
    extent = np.concatenate([[0], np.cumsum([len(e[2]) for e in group])])
    for k, (_, mol, *_rest) in enumerate(group):
        mine = slice(extent[k], extent[k + 1])
        if not sound(positions[mine], topology(mol)) or not apart(positions, numbers, mine):
            return None
    return positions, numbers, sum(charges)


def apart(positions, numbers, mine):
    """True if the atoms `mine` are at least 1.35 Å from all others, and no heavy pair is closer than 2.1 Å."""
    rest = np.ones(len(numbers), bool)
    rest[mine] = False
    if not rest.any():
        return True
    distance = np.linalg.norm(positions[mine][:, None] - positions[rest][None], axis=-1)
    heavy = (numbers[mine] > 1)[:, None] & (numbers[rest] > 1)[None]
    return bool((distance > np.where(heavy, 2.1, 1.35)).all() and distance.min() < 8.0)


def report(out):
    """Counts, sizes and shortest distances per class; stops on an odd number of electrons."""
    for kind in KINDS:
        rows = [(split, row) for split in SPLITS for row in out[split].rows if row[3] == kind]
        if not rows:
            continue
        shortest, ratio = np.inf, np.inf
        for _, (x, z, charge, _, name, cell) in rows:
            assert (int(z.sum()) - charge) % 2 == 0, name
            if len(z) > 1:
                d = x[:, None] - x[None]
                if cell is not None:
                    d = d - np.round(d @ np.linalg.inv(cell)) @ cell
                r = np.sqrt((d**2).sum(-1))[np.triu_indices(len(z), 1)]
                radius = np.array([COVALENT[int(n)] for n in z])
                total = (radius[:, None] + radius[None])[np.triu_indices(len(z), 1)]
                shortest, ratio = min(shortest, r.min()), min(ratio, (r / total).min())
        sizes = np.array([len(row[1]) for _, row in rows])
        counts = " ".join(str(sum(s == split for s, _ in rows)) for split in SPLITS)
        names = len({row[4] for _, row in rows})
        print(f"{kind:9s} {len(rows):6d} ({counts})  {names} names  atoms {sizes.min()}-{sizes.max()}, mean "
              f"{sizes.mean():.1f}  shortest {shortest:.3f} Å  smallest r/(covalent sum) {ratio:.2f}")  # fmt: skip
    total = sum(len(row[1]) for split in SPLITS for row in out[split].rows)
    print("structures", sum(len(out[s].rows) for s in SPLITS), "atoms", total)


def preview(path, rows, count, rng):
    """Write `count` random structures as extended XYZ."""
    with open(path, "w") as handle:
        for index in sorted(rng.permutation(len(rows))[:count]):
            x, z, charge, kind, name, cell = rows[index]
            lattice = "" if cell is None else 'Lattice="' + " ".join(f"{v:.6f}" for v in cell.ravel()) + '" '
            periodic = "F F F" if cell is None else "T T T"
            handle.write(f'{len(z)}\n{lattice}Properties=species:S:1:pos:R:3 pbc="{periodic}" charge={charge} '
                         f'kind={kind} molecule="{name}"\n'.replace("\\", "\\\\"))  # fmt: skip
            for n, (a, b, c) in zip(z, x, strict=True):
                symbol = Chem.GetPeriodicTable().GetElementSymbol(int(n))
                handle.write(f"{symbol:2s} {a:12.6f} {b:12.6f} {c:12.6f}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sampling-seed", type=int, help="of geometries and splits; other geometries of the same molecules"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 = about 24,000 structures")
    parser.add_argument("--molecules", type=int, default=1050, help="distinct neutral molecules")
    parser.add_argument("--ions", type=int, default=220, help="distinct ions")
    parser.add_argument("--chemistry-only", action="store_true", help="neither peptides nor water")
    parser.add_argument("--prefix", default="structures")
    parser.add_argument("--preview", type=Path, help="also write 200 random training structures as extended XYZ")
    args = parser.parse_args()
    args.sampling_seed = args.seed if args.sampling_seed is None else args.sampling_seed
    begun = time.time()
    out = {split: Collection() for split in SPLITS}
    rng = np.random.default_rng([args.seed, 0])  # which molecules
    pools = monomers(args, rng, out)
    print(f"monomers {time.time() - begun:.0f} s", flush=True)
    dimers(args, rng, out, pools)
    print(f"dimers {time.time() - begun:.0f} s", flush=True)
    if not args.chemistry_only:
        waters(args, rng, out)
    print(f"water {time.time() - begun:.0f} s", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        out[split].save(args.out / f"{args.prefix}_{split}.npz")
    report(out)
    if args.preview:
        preview(args.preview, out["train"].rows, 200, rng)


if __name__ == "__main__":
    main()
