"""Physical pair terms on a GPU: one program an atom, every derivative in the same pass; truth: `heliodor.physics`.

All read the full symmetric matrix, or all pairs of a structure where it is None, and give each atom half of each of
its pairs' energies and the whole derivative by its own position and charge: no atomics, two runs bit-equal. Distances
are formed in float64 and rounded to the dtype of the charges or tables.
"""

from heliodor.kernels.gpu.pairs.edges import PairSums
from heliodor.kernels.gpu.pairs.long_range import LongRange, LongRangeTables, long_range_pairs
from heliodor.kernels.gpu.pairs.smeared import SmearedTables, smeared_coulomb_pairs
from heliodor.kernels.gpu.pairs.zbl import ZBLTables, zbl_pairs

__all__ = [
    "LongRange",
    "LongRangeTables",
    "PairSums",
    "SmearedTables",
    "ZBLTables",
    "long_range_pairs",
    "smeared_coulomb_pairs",
    "zbl_pairs",
]
