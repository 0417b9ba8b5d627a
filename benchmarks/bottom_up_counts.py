"""Amons of all proteins by size, against the design and the literature.

    python benchmarks/bottom_up_counts.py [--max-heavy 8] [--embed 300]

The design (gems.md, section 4a) has 7, 12, 25, 63, 136, 295, 603 and 1,190 graphs of one to eight heavy atoms, 2,331
in all; Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), say 2,307 and do not list them. With --embed so many of
them, at random, are put into space.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from heliodor.errors import HeliodorError
from heliodor.fragments.embed import embed
from heliodor.fragments.proteins import LARGEST, amons_of_sequence, protein_amons

DESIGN = (7, 12, 25, 63, 136, 295, 603, 1190)
LITERATURE = 2307


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-heavy", type=int, default=LARGEST)
    parser.add_argument("--embed", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    largest = arguments.max_heavy
    sizes = range(1, largest + 1)
    print(f"{'':44}" + "".join(f"{f'n={n}':>6}" for n in sizes) + "   total   CPU s")
    print(f"{'design':44}" + "".join(f"{n:6d}" for n in DESIGN[:largest]) + f"{sum(DESIGN[:largest]):8d}")
    for name, options in (
        ("one Kekulé structure (the design's)", {}),
        ("every Kekulé structure", {"every_kekule": True}),
        ("complete", {"complete": True}),
        ("complete, every Kekulé structure", {"complete": True, "every_kekule": True}),
    ):
        start = time.process_time()
        amons = protein_amons(largest, **options)
        spent = time.process_time() - start
        counts = Counter(amon.n_heavy for amon in amons)
        print(f"{name:44}" + "".join(f"{counts[n]:6d}" for n in sizes) + f"{len(amons):8d}{spent:8.1f}")
    amons = protein_amons(largest)
    if largest == LARGEST:
        print(f"literature: {LITERATURE}; difference {100.0 * (len(amons) / LITERATURE - 1.0):+.1f} %")
    charges = Counter(amon.charge for amon in amons)
    print("charges: " + ", ".join(f"{charge:+d}: {charges[charge]}" for charge in sorted(charges)))
    three = [len(amons_of_sequence("AAA", n, n_terminus="ACE", c_terminus="NME")) for n in sizes]
    print(f"{'Ace-Ala-Ala-Ala-NMe, up to n':44}" + "".join(f"{n:6d}" for n in three))
    if not arguments.embed:
        return
    chosen = np.random.default_rng(0).permutation(len(amons))[: arguments.embed]
    start, atoms, failed = time.process_time(), [], []
    for index in chosen:
        try:
            atoms.append(len(embed(amons[index])[0]))
        except HeliodorError as error:
            failed.append(str(error))
    spent = time.process_time() - start
    print(
        f"embedded: {len(atoms)} of {len(chosen)}, {np.mean(atoms):.1f} atoms on average, {max(atoms)} at most, "
        f"{1e3 * spent / len(chosen):.0f} ms each"
    )
    for message in failed:
        print(f"  {message}")


if __name__ == "__main__":
    main()
