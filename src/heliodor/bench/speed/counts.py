"""Operations and bytes of each architecture, from its configuration; the rules are those of `parts`."""

from __future__ import annotations

from heliodor.bench.speed.parts import LISTED, PASSES, SPECIAL, SPLINE, WORD, Around, Part
from heliodor.potentials.mace import MACE, Layer, Product
from heliodor.potentials.so3lr import SO3LR
from heliodor.potentials.spookynet import SpookyNet

SO3LR_PAIR = 14.0 * SPECIAL + 142.0
"""Operations of a long-range pair of SO3LR: distance 9 and a root; Coulomb 5 special functions and 39 more, 3 of the
former for the switch; dispersion 8 and 94: a power, three quotients of the series, one of C6, its switch."""

SPOOKYNET_PAIR = 10.0 * SPECIAL + 260.0
"""Of a long-range pair of SpookyNet: distance 9; smeared Coulomb 3 special functions and 40; D4 with its coordination
numbers 6 and 73, and 3 times 2 operations for each of 23 frequencies of C6."""

POSITIONS = 48.0
"""Bytes of an atom's position and force in float64."""


def so3lr(model: SO3LR, near: Around) -> list[Part]:
    """SO3LR and models of its form, such as heliodor-s.

    With F features, H heads, L degrees of M components in all, s = F/4: a layer maps each atom's features to queries,
    keys and values of the invariant branch (6F²/H operations) and queries and keys of the other (4F²/L), updates (4F²)
    and exchanges (2(F+L)²). A pair needs two filters of F features: a spline of the distance, and from the second layer
    on a network of the squared difference of the atoms' equivariant features (2(2Ls + 2sF)).
    """
    c = model.config.network
    f, heads, layers = c.n_features, c.n_heads, c.n_layers
    degrees = len(c.degrees)
    m, s = sum(2 * degree + 1 for degree in c.degrees), f // 4
    half = 0.5 * near.edges
    atom = 6 * f * f / heads + 4 * f * f / degrees + 4 * f * f + 2 * (f + degrees) ** 2
    angular = 2 * (2 * degrees * s + 2 * s * f)
    # q k w of both branches, values, and the equivariant sums
    attention = (3 + 9) * 2 * f + 6 * f + 6 * m
    h = model.config.n_hirshfeld
    # queries, keys and values of both branches, invariant and equivariant features
    kept = 6 * f + m
    return [
        Part("maps of atoms", layers * atom, layers * 50.0 * f, layers * PASSES * WORD * kept + POSITIONS),
        Part("radial filters", 0.0, layers * half * SPLINE * 2 * f),
        Part(
            "angular filters",
            (layers - 1) * half * angular,
            (layers - 1) * half * (9 * m + 2 * 2 * s * (SPECIAL + 4.0)),
        ),
        Part("attention", 0.0, layers * near.edges * attention, 2 * layers * LISTED * near.edges),
        Part("readouts", 4 * f * f + 4 * f + 2 * h * (f + h), 2 * h + 12 * (2 * f + h), 3 * PASSES * WORD),
        Part("long-range pairs", 0.0, 0.5 * near.pairs * SO3LR_PAIR, 0.5 * near.pairs * LISTED),
    ]


def mace(model: MACE, near: Around) -> list[Part]:
    """MACE with any number of layers.

    With K channels, a message of a path (l1, l2, l3) is a matrix of (2l1+1)(2l3+1) numbers, the harmonics coupled,
    times the sender's features times a spline of the distance. Maps that follow each other are folded: that of the
    elements into the mixing of the first layer, that after the products into the one before the next layer's messages.
    Products are sums over distinct monomials whose coefficients do not vanish.
    """
    k = model.config.channels
    maps = products = messages = splines = kept = 0.0
    for number, layer in enumerate(model.network.layers):
        assert isinstance(layer, Layer)
        moving = number > 0
        came = len(layer.up) - 1
        if moving:
            maps += sum(2 * degree + 1 for degree in range(came + 1)) * 2 * k * k
        maps += sum((2 * degree + 1) * len(ways) * 2 * k * k for degree, ways in enumerate(layer.ways))
        for l1, _, l3 in layer.paths:
            matrix, width = (2 * l1 + 1) * (2 * l3 + 1), 2 * l1 + 1
            messages += 2 * matrix + width + 2 * matrix + 2 * width + (2 * matrix + width if moving else 0.0)
            splines += SPLINE
        for product in layer.products:
            assert isinstance(product, Product)
            products += 3.0 * _product(product)
        kept += (came + 1) ** 2 + (model.config.edge_degree + 1) ** 2 + len(layer.products) ** 2
    layers = len(model.network.layers)
    hidden = model.config.readout_hidden
    return [
        Part("maps of atoms", maps, 0.0, PASSES * WORD * k * kept + POSITIONS),
        Part("radial splines", 0.0, 0.5 * near.edges * k * splines),
        Part("messages", 0.0, near.edges * k * messages, 2 * layers * LISTED * near.edges),
        Part("products", 0.0, k * products),
        Part("readouts", 2 * k * (layers - 1) + 2 * hidden * (2 * k + 1), 2 * hidden * SPECIAL),
    ]


def _product(product: Product) -> float:
    """Operations forward for one channel: monomials, and their sum into each component."""
    found = 0.0
    for order in range(1, len(product.weights) + 1):
        # [monomials, components, paths]: over paths they are summed before atoms come in
        used = (product.get_buffer(f"coefficients_{order}") != 0).any(-1)
        found += (order - 1) * float(used.any(-1).sum()) + 2.0 * float(used.sum())
    return found


def spookynet(model: SpookyNet, near: Around) -> list[Part]:
    """SpookyNet of a neutral closed-shell structure.

    With F features, a residual map takes 4F² operations, a residual network of depth n 4nF² + 2F². A module has seven
    such networks beside each other, the projections of dipoles and Q = 5 or 6 quadrupoles (4F² a component), the
    attention by F random features (8F²), and what is before, between and after. A message is features times a spline,
    summed alone (s), with the direction (p), and with its quadrupole (d).
    """
    c = model.config
    f, modules, d = c.n_features, c.n_modules, c.depths
    q = 5 if c.irreducible else 6
    readers = [d.local_x, d.local_s, d.local_p, d.local_d, d.nonlocal_q, d.nonlocal_k, d.nonlocal_v]
    residuals = 4 * (d.pre + d.post) + sum(4 * n + 2 for n in [*readers, d.local, d.output])
    atom = (residuals + 4 * (3 + q) + 8) * f * f + 4 * f
    activations = 2 * (d.pre + d.post) + sum(2 * n + 1 for n in [*readers, d.local, d.output])
    message = (2 + 3) * f + (7 + 15) * f + ((1 + 2 * q) + (3 + 4 * q)) * f
    kept = (4 + 3 + q + 2) * f
    parts = [
        Part(
            "maps of atoms",
            modules * atom + 4 * f,
            modules * f * (activations * 2 * (SPECIAL + 4.0) + 6 * (3 + q)),
            modules * PASSES * WORD * kept + POSITIONS,
        ),
        Part("radial splines", 0.0, modules * 0.5 * near.edges * SPLINE * 3 * f),
        Part("messages", 0.0, modules * near.edges * message, 2 * modules * LISTED * near.edges),
    ]
    if model.has_long_range:
        # coordination numbers, charges and their gradients: two sweeps over the pairs
        parts.append(Part("long-range pairs", 0.0, 0.5 * near.pairs * SPOOKYNET_PAIR, 2 * 0.5 * near.pairs * LISTED))
    return parts
