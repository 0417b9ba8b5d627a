"""Clebsch-Gordan couplings of real harmonics, and the symmetric products MACE builds from them.

Everything is computed here, from the generators of rotations, and cached.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement, permutations

import numpy as np


@cache
def _generators(degree: int) -> np.ndarray:
    """Infinitesimal rotations about three axes in the real basis m = -l..l: [3, 2l+1, 2l+1], antisymmetric."""
    m = np.arange(-degree, degree + 1)
    raise_m = np.diag(np.sqrt((degree - m[:-1]) * (degree + m[:-1] + 1.0)), -1)
    momenta = np.array([(raise_m + raise_m.T) / 2, (raise_m - raise_m.T) / 2j, np.diag(m)])
    # real harmonics without Condon-Shortley phase from complex ones
    real = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    real[degree, degree] = 1.0
    for k in range(1, degree + 1):
        real[degree + k, [degree + k, degree - k]] = np.array([(-1) ** k, 1]) / np.sqrt(2)
        real[degree - k, [degree + k, degree - k]] = np.array([(-1) ** k, -1]) / (1j * np.sqrt(2))
    generators: np.ndarray = (-1j * real.conj() @ momenta @ real.T).real
    return generators


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """The invariant of three degrees in the real basis: [2l1+1, 2l2+1, 2l3+1], Frobenius norm 1.

    Signs are e3nn's: of the degrees in ascending order the entry m = 0, 0, 0 is positive, or the first one that is
    not zero where that one vanishes; another order transposes, odd permutations of an odd sum change the sign.

    Raises:
        ValueError: degrees that cannot couple.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees {l1}, {l2} and {l3} do not couple")
    degrees = (l1, l2, l3)
    order = tuple(int(k) for k in np.argsort(degrees, kind="stable"))
    tensor = np.transpose(_sorted_3j(*(degrees[k] for k in order)), np.argsort(order))
    odd = sum(order[a] > order[b] for a in range(3) for b in range(a + 1, 3)) % 2
    result: np.ndarray = -tensor if odd and sum(degrees) % 2 else tensor
    return np.ascontiguousarray(result)


@cache
def _sorted_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    eye = [np.eye(2 * degree + 1) for degree in (l1, l2, l3)]
    turn = [
        np.kron(np.kron(a, eye[1]), eye[2]) + np.kron(np.kron(eye[0], b), eye[2]) + np.kron(np.kron(eye[0], eye[1]), c)
        for a, b, c in zip(_generators(l1), _generators(l2), _generators(l3), strict=True)
    ]
    # what no rotation changes: the null space, one dimension
    square = sum(matrix.T @ matrix for matrix in turn)
    invariant = np.linalg.eigh(square)[1][:, 0].reshape([len(e) for e in eye])
    invariant[np.abs(invariant) < 1e-12] = 0.0
    middle = invariant[l1, l2, l3]
    first = middle if abs(middle) > 1e-9 else invariant[invariant != 0.0][0]
    return invariant * np.sign(first) / np.linalg.norm(invariant)


def convolution_paths(in_max: int, edge_max: int, out_max: int) -> list[tuple[int, int, int]]:
    """Couplings (l1 of the sender, l2 of the edge, l3 of the message) of even sum, ordered by (l3, l1, l2)."""
    return [
        (l1, l2, l3)
        for l3 in range(out_max + 1)
        for l1 in range(in_max + 1)
        for l2 in range(edge_max + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]


def ways_to(paths: list[tuple[int, int, int]]) -> list[list[int]]:
    """Which paths lead to each degree of the messages."""
    return [[p for p, path in enumerate(paths) if path[2] == degree] for degree in range(paths[-1][2] + 1)]


@cache
def product_couplings(l_max: int, order: int, out: int) -> np.ndarray:
    """All ways to couple `order` copies of degrees 0..l_max to one: [2 out + 1, S, ..., S, paths], S = (l_max+1)².

    One factor after the other, ((1 2) 3), as MACE's U matrices (Batatia et al. 2022, eq. 10; the order of the paths is
    that of its reference code).
    """
    degrees = range(l_max + 1)
    size = (l_max + 1) ** 2
    place = {degree: slice(degree**2, (degree + 1) ** 2) for degree in degrees}
    # (degree, parity, tensor [2 degree + 1, S, ...])
    coupled: list[tuple[int, int, np.ndarray]] = []
    for degree in degrees:
        tensor = np.zeros((2 * degree + 1, size))
        tensor[:, place[degree]] = np.eye(2 * degree + 1)
        coupled.append((degree, (-1) ** degree, tensor))
    single = list(coupled)
    for left_to_come in reversed(range(order - 1)):
        grown = []
        for left_degree, left_parity, left in coupled:
            for degree, parity, right in single:
                for result in range(abs(left_degree - degree), left_degree + degree + 1):
                    if abs(result - out) > left_to_come * l_max:
                        continue
                    three = np.sqrt(2 * result + 1) * wigner_3j(result, left_degree, degree)
                    tensor = np.einsum("pab,a...,bj->p...j", three, left, right)
                    grown.append((result, left_parity * parity, tensor))
        coupled = sorted(grown, key=lambda item: (item[0], item[1]))
    wanted = [tensor for degree, parity, tensor in coupled if (degree, parity) == (out, (-1) ** out)]
    return np.stack(wanted, axis=-1)


@cache
def product_monomials(l_max: int, order: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """`monomials` of `product_couplings`."""
    return monomials(product_couplings(l_max, order, out))


def monomials(couplings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of couplings that products of one and the same vector see, monomial by monomial.

    Args:
        couplings: [M, S, ..., S, P]; `product_couplings`, or a U matrix of MACE.

    Returns:
        factors [n, order], ascending indices into the S components, and coefficients [n, M, P]; monomials with
        coefficients below 1e-10 throughout are left out.
    """
    order = couplings.ndim - 2
    factors, coefficients = [], []
    for chosen in combinations_with_replacement(range(couplings.shape[1]), order):
        rows = np.array(sorted(set(permutations(chosen))))
        total = couplings[(slice(None), *rows.T)].sum(axis=1)
        if np.abs(total).max() > 1e-10:
            factors.append(chosen)
            coefficients.append(total)
    return np.array(factors, dtype=np.int64).reshape(-1, order), np.array(coefficients)
