"""What is measured of POPC bilayers.

Area per lipid: Kučerka, Nieh & Katsaras, Biochim. Biophys. Acta 1808, 2761 (2011), 303 K. Thickness: 36.5 Å, as quoted
for 303 K by Kabylda et al. (SO3LR), J. Am. Chem. Soc. 147, 33723 (2025), who got 58.0 Å² and 37.0 Å.

Order parameters: Ferreira, Coreta-Gomes, Ollila, Moreno, Vaz & Topgaard, Phys. Chem. Chem. Phys. 15, 1976 (2013),
300 K, no cholesterol, as in the NMRlipids databank (BilayerData, CC BY 4.0;
experiments/OrderParameters/10.1039/c2cp42738a).
The experiment does not see their signs, which are negative in a bilayer. Error ±0.02.
"""

from __future__ import annotations

AREA = (64.3, 1.3)
"""Å², and its error."""

AREA_NOTE = "Kučerka 2011, POPC at 303 K: 64.3 ± 1.3 Å²; SO3LR (Kabylda 2025): 58.0 Å²"

THICKNESS = 36.5
"""Å, distance of the maxima of the electron density."""

THICKNESS_NOTE = "POPC at 303 K, as quoted by Kabylda 2025: 36.5 Å; SO3LR: 37.0 Å"

ORDER_ERROR = 0.02

PALMITOYL = {
    2: (-0.2099,),
    3: (-0.1884,),
    4: (-0.1862,),
    5: (-0.2017,),
    6: (-0.1958,),
    7: (-0.1951,),
    8: (-0.1817,),
    9: (-0.1743,),
    10: (-0.1499,),
    11: (-0.1366,),
    12: (-0.1159,),
    13: (-0.1062,),
    14: (-0.0899,),
    15: (-0.0670,),
    16: (-0.0181,),
}
"""S_CD of the sn-1 tail, by the number of the carbon (the ester carbon is 1)."""

OLEOYL = {
    2: (-0.0796, -0.1225),
    3: (-0.1803,),
    4: (-0.1862,),
    5: (-0.1936,),
    6: (-0.1662,),
    7: (-0.1544,),
    8: (-0.1203,),
    9: (-0.1085,),
    10: (-0.0226,),
    11: (-0.0581,),
    12: (-0.0996,),
    13: (-0.1062,),
    14: (-0.0944,),
    15: (-0.0944,),
    16: (-0.0899,),
    17: (-0.0670,),
    18: (-0.0181,),
}
"""S_CD of the sn-2 tail; the two hydrogens of carbon 2 differ."""
