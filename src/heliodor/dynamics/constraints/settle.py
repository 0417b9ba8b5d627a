"""SETTLE: the triangle of a rigid water put back in closed form.

Miyamoto & Kollman, J. Comput. Chem. 13, 952 (1992), with the paper's letters where they help.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.dynamics.constraints.clusters import Triangles


def settle(
    triangles: Triangles, reference: Float[Tensor, "N 3"], positions: Float[Tensor, "N 3"]
) -> Float[Tensor, "M 3 3"]:
    """Where the atoms (oxygen, hydrogen, hydrogen) of each water belong, Å.

    The same as SHAKE with all three distances: the triangle with the centre of mass of ``positions`` that is reached
    by moves along the bonds of ``reference``, which satisfies the constraints. NaN where there is none (the step
    was far too long).
    """
    old, new = reference[triangles.atoms], positions[triangles.atoms]
    oxygen = triangles.oxygen_share.view(-1, 1)
    ra, rb, rc = triangles.oxygen_height, triangles.hydrogen_height, triangles.half_width
    b0, c0 = old[:, 1] - old[:, 0], old[:, 2] - old[:, 0]
    center = oxygen * new[:, 0] + 0.5 * (1.0 - oxygen) * (new[:, 1] + new[:, 2])
    a1, b1, c1 = (new - center.unsqueeze(1)).unbind(1)

    # z is normal to the plane of the reference, x and y lie in it, the unconstrained oxygen in the yz plane
    z = torch.linalg.cross(b0, c0)
    x = torch.linalg.cross(a1, z)
    y = torch.linalg.cross(z, x)
    axes = torch.nn.functional.normalize(torch.stack([x, y, z], dim=-2), dim=-1)
    turned = torch.einsum("mij,mkj->mki", axes, torch.stack([b0, c0, a1, b1, c1], dim=1))
    xb0, yb0, _ = turned[:, 0].unbind(-1)
    xc0, yc0, _ = turned[:, 1].unbind(-1)
    za1 = turned[:, 2, 2]
    xb1, yb1, zb1 = turned[:, 3].unbind(-1)
    xc1, yc1, zc1 = turned[:, 4].unbind(-1)

    # the canonical triangle, turned out of the plane (φ, ψ) until its heights are those of the free motion
    sin_phi = za1 / ra
    cos_phi = (1.0 - sin_phi.square()).sqrt()
    sin_psi = (zb1 - zc1) / (2.0 * rc * cos_phi)
    cos_psi = (1.0 - sin_psi.square()).sqrt()
    ya2 = ra * cos_phi
    xb2 = -rc * cos_psi
    yb2 = -rb * cos_phi - rc * sin_psi * sin_phi
    yc2 = -rb * cos_phi + rc * sin_psi * sin_phi

    # turned within the plane (θ) until the moves lie along the reference's bonds
    alpha = xb2 * (xb0 - xc0) + yb0 * yb2 + yc0 * yc2
    beta = xb2 * (yc0 - yb0) + xb0 * yb2 + xc0 * yc2
    gamma = xb0 * yb1 - xb1 * yb0 + xc0 * yc1 - xc1 * yc0
    squared = alpha.square() + beta.square()
    sin_theta = (alpha * gamma - beta * (squared - gamma.square()).sqrt()) / squared
    cos_theta = (1.0 - sin_theta.square()).sqrt()
    a3 = torch.stack([-ya2 * sin_theta, ya2 * cos_theta, za1], -1)
    b3 = torch.stack([xb2 * cos_theta - yb2 * sin_theta, xb2 * sin_theta + yb2 * cos_theta, zb1], -1)
    c3 = torch.stack([-xb2 * cos_theta - yc2 * sin_theta, -xb2 * sin_theta + yc2 * cos_theta, zc1], -1)
    return center.unsqueeze(1) + torch.stack([a3, b3, c3], dim=1) @ axes
