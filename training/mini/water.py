"""A small flexible water model in numpy: Langevin MD of clusters and of periodic boxes, many replicas at once.

Harmonic bonds and angle, Lennard-Jones on O-O (and a short O-H repulsion), point charges.  The parameters are close
to SPC/Fw, with the monomer geometry moved towards 0.965 Å and 106°.  Clusters use plain Coulomb inside a soft
spherical wall; boxes use damped, shifted-force Coulomb with minimum images, cut at half the box width.
Units: Å, fs, kcal/mol, atomic mass units, K.
"""

import numpy as np
from scipy.special import erfc

BOND_LENGTH, BOND_FORCE = 0.965, 1059.0  # Å, kcal/mol/Å²
ANGLE, ANGLE_FORCE = np.deg2rad(106.0), 76.0  # rad, kcal/mol/rad²
SIGMA, EPSILON = 3.1655, 0.1554  # O-O, Å and kcal/mol
REPULSION = 60.0  # O-H, kcal/mol Å^12, keeps H from falling into O
CHARGE_H = 0.41
COULOMB = 332.0637  # kcal/mol Å
KB = 0.0019872041  # kcal/mol/K
FORCE_TO_ACCELERATION = 4.184e-4  # (kcal/mol/Å/amu) in Å/fs²
MOLAR = 18.015 / 0.602214  # Å³ g/cm³ per molecule
DAMPING = 0.2  # 1/Å


class WaterBatch:
    """`replicas` independent systems of `count` waters, atoms ordered O H H; `cell` [replicas, 3, 3] or None."""

    def __init__(self, positions, cell=None, wall=None):
        self.positions = positions
        self.replicas, atoms = positions.shape[:2]
        self.count = atoms // 3
        self.cell, self.wall = cell, wall
        self.masses = np.tile([15.999, 1.008, 1.008], self.count)[:, None]
        charges = np.tile([-2 * CHARGE_H, CHARGE_H, CHARGE_H], self.count)
        molecule = np.arange(atoms) // 3
        other = molecule[:, None] != molecule[None, :]
        oxygen = np.arange(atoms) % 3 == 0
        self.qq = COULOMB * charges[:, None] * charges[None, :] * other
        self.mixed = other & (oxygen[:, None] ^ oxygen[None, :])
        self.self_pair = ~other
        if cell is not None:
            self.inverse = np.linalg.inv(cell)
            widths = 1.0 / np.linalg.norm(self.inverse, axis=1)
            self.cutoff = 0.5 * widths.min(axis=1)[:, None, None]

    def forces(self):
        """Forces in kcal/mol/Å, [replicas, atoms, 3]."""
        x = self.positions
        delta = x[:, :, None, :] - x[:, None, :, :]
        if self.cell is not None:
            images = np.round(np.einsum("bijk,bkl->bijl", delta, self.inverse, optimize=True))
            delta -= np.einsum("bijk,bkl->bijl", images, self.cell, optimize=True)
        r2 = np.einsum("bijk,bijk->bij", delta, delta)
        r2[:, self.self_pair] = 1.0e6
        r = np.sqrt(r2)
        if self.cell is None:
            pull = self.qq / (r2 * r)
        else:
            edge = self.cutoff
            pull = np.where(r < edge, self.qq * (damped(r) - damped(edge)) / r, 0.0)
        pull += np.where(self.mixed, 12.0 * REPULSION * 1e-4 / r2**7, 0.0)
        close = r2[:, ::3, ::3]
        six = (SIGMA**2 / close) ** 3
        lj = 24.0 * EPSILON * (2.0 * six * six - six) / close
        if self.cell is not None:
            lj = np.where(close < self.cutoff**2, lj, 0.0)
        pull[:, ::3, ::3] += lj
        force = np.einsum("bij,bijk->bik", pull, delta, optimize=True)
        self.add_bonded(force)
        if self.wall is not None:
            oxygen = x[:, ::3]
            out = oxygen - oxygen.mean(axis=1, keepdims=True)
            distance = np.linalg.norm(out, axis=-1, keepdims=True) + 1e-9
            force[:, ::3] -= 5.0 * np.maximum(distance - self.wall[:, None, None], 0.0) * out / distance
        return force

    def add_bonded(self, force):
        x = self.positions
        a, b = x[:, 1::3] - x[:, ::3], x[:, 2::3] - x[:, ::3]
        ra, rb = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
        ua, ub = a / ra, b / rb
        fa, fb = (-BOND_FORCE * (r - BOND_LENGTH) * u for r, u in ((ra, ua), (rb, ub)))
        cosine = np.clip((ua * ub).sum(-1, keepdims=True), -0.9999, 0.9999)
        slope = ANGLE_FORCE * (np.arccos(cosine) - ANGLE) / np.sqrt(1.0 - cosine**2)
        fa += slope * (ub - cosine * ua) / ra
        fb += slope * (ua - cosine * ub) / rb
        force[:, 1::3] += fa
        force[:, 2::3] += fb
        force[:, ::3] -= fa + fb

    def relax(self, steps=200):
        """Crude steepest descent, no atom moving more than 0.05 Å a step."""
        for _ in range(steps):
            step = 5e-4 * self.forces()
            length = np.linalg.norm(step, axis=-1, keepdims=True)
            self.positions = self.positions + step * np.minimum(1.0, 0.05 / (length + 1e-12))

    def run(self, rng, temperature, steps, dt=1.0, friction=0.01, every=None):
        """BAOAB Langevin at `temperature` [replicas] K; returns the positions each `every` steps."""
        width = np.sqrt(KB * temperature[:, None, None] * FORCE_TO_ACCELERATION / self.masses)
        if not hasattr(self, "velocity"):
            self.velocity = width * rng.standard_normal(self.positions.shape)
        keep, frames = np.exp(-friction * dt), []
        kick = 0.5 * dt * FORCE_TO_ACCELERATION / self.masses
        force = self.forces()
        for step in range(1, steps + 1):
            self.velocity += kick * force
            self.positions = self.positions + 0.5 * dt * self.velocity
            noise = rng.standard_normal(self.positions.shape)
            self.velocity = keep * self.velocity + np.sqrt(1 - keep**2) * width * noise
            self.positions = self.positions + 0.5 * dt * self.velocity
            force = self.forces()
            self.velocity += kick * force
            if every and step % every == 0:
                frames.append(self.positions.copy())
        return frames


def damped(r):
    """Size of the damped Coulomb force for unit charges, 1/Å²."""
    return erfc(DAMPING * r) / r**2 + 2.0 * DAMPING / np.sqrt(np.pi) * np.exp(-((DAMPING * r) ** 2)) / r


def random_rotation(rng):
    q = rng.standard_normal(4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def monomer():
    half = ANGLE / 2
    legs = BOND_LENGTH * np.array([[0, 0, 0], [np.sin(half), 0, np.cos(half)], [-np.sin(half), 0, np.cos(half)]])
    return legs - legs.mean(axis=0)


def packing(rng, count, edge_to_place):
    """`count` randomly turned waters on a random subset of a jittered lattice; `edge_to_place` maps fractions."""
    side = int(np.ceil(count ** (1 / 3) - 1e-9))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = grid[rng.permutation(len(grid))[:count]]
    places = ((chosen + 0.5 + rng.uniform(-0.12, 0.12, (count, 3))) / side) @ edge_to_place
    return np.concatenate([monomer() @ random_rotation(rng).T + place for place in places])


def clusters(rng, count, replicas, snapshots):
    """Yields (positions [3 count, 3], replica) of isolated clusters at 100-500 K and various densities."""
    edges = rng.uniform(3.0, 4.6, replicas) * count ** (1 / 3) + (count == 1)
    batch = WaterBatch(np.stack([packing(rng, count, np.eye(3) * max(e, 3.0)) for e in edges]), wall=edges * 0.6)
    temperature = rng.choice([100.0, 200.0, 300.0, 350.0, 400.0, 500.0], replicas)
    batch.relax()
    batch.run(rng, temperature, 1000)
    for frame in batch.run(rng, temperature, 200 * snapshots, every=200):
        yield from ((frame[i], i) for i in range(replicas))


def boxes(rng, count, replicas, snapshots):
    """Yields (positions, cell, replica) of liquid boxes at 0.9-1.1 g/cm³, half of them mildly triclinic."""
    cells = []
    for i in range(replicas):
        cell = np.eye(3)
        if i % 2:
            cell = cell + np.tril(rng.uniform(-0.15, 0.15, (3, 3)), -1) + np.diag(rng.uniform(-0.06, 0.06, 3))
        volume = count * MOLAR / rng.uniform(0.9, 1.1)
        cells.append(cell * (volume / np.linalg.det(cell)) ** (1 / 3))
    cells = np.stack(cells)
    batch = WaterBatch(np.stack([packing(rng, count, cell) for cell in cells]), cell=cells)
    temperature = rng.choice([250.0, 300.0, 300.0, 350.0, 400.0, 500.0], replicas)
    batch.relax()
    batch.run(rng, np.full(replicas, 500.0), 1000)
    batch.run(rng, temperature, 1500)
    for frame in batch.run(rng, temperature, 300 * snapshots, every=300):
        for i in range(replicas):
            oxygen = frame[i, ::3]
            shift = np.floor(oxygen @ batch.inverse[i]) @ cells[i]
            yield frame[i] - np.repeat(shift, 3, axis=0), cells[i], i


def temperature_of(batch):
    """Kinetic temperature in K, one per replica (used to check the integrator)."""
    kinetic = 0.5 * (batch.masses * batch.velocity**2).sum((1, 2)) / FORCE_TO_ACCELERATION
    return 2.0 * kinetic / (3 * batch.velocity.shape[1] * KB)


if __name__ == "__main__":
    generator = np.random.default_rng(1)
    cell = np.eye(3)[None].repeat(4, 0) * (27 * MOLAR) ** (1 / 3)
    start = np.stack([packing(generator, 27, c) for c in cell])
    test = WaterBatch(start, cell)
    test.relax()
    for _ in range(4):
        test.run(generator, np.full(4, 300.0), 300)
        print("K:", temperature_of(test))
    x = test.positions
    d = x[:, ::3][:, :, None] - x[:, ::3][:, None]
    d -= np.round(d / cell[0, 0, 0]) * cell[0, 0, 0]
    r = np.linalg.norm(d, axis=-1) + 9 * np.eye(27)
    print("nearest O-O:", np.sort(r, axis=-1)[:, :, :5].mean((0, 1)))
