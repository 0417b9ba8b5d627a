"""SO3krates' spherical harmonics of degrees 1 to 4 and their pullback, compiled (see `heliodor.potentials.angular`)."""

from __future__ import annotations

import math

from heliodor.kernels.cpu.compiled import compiled

COMPONENTS = 24

_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = 0.5 * math.sqrt(15 / math.pi)
_C20 = 0.25 * math.sqrt(5 / math.pi)
_C33 = 0.25 * math.sqrt(35 / (2 * math.pi))
_C32 = 0.5 * math.sqrt(105 / math.pi)
_C31 = 0.25 * math.sqrt(21 / (2 * math.pi))
_C30 = 0.25 * math.sqrt(7 / math.pi)
_C44 = 0.75 * math.sqrt(35 / math.pi)
_C43 = 0.75 * math.sqrt(35 / (2 * math.pi))
_C42 = 0.75 * math.sqrt(5 / math.pi)
_C41 = 0.75 * math.sqrt(5 / (2 * math.pi))
_C40 = 3 / 16 * math.sqrt(1 / math.pi)


@compiled
def harmonics(x, y, z, out):  # type: ignore[no-untyped-def]
    """The 24 harmonics of a unit vector."""
    xx, yy, zz = x * x, y * y, z * z
    out[0] = _C1 * y
    out[1] = _C1 * z
    out[2] = _C1 * x
    out[3] = _C2 * x * y
    out[4] = _C2 * y * z
    out[5] = _C20 * (3.0 * zz - 1.0)
    out[6] = _C2 * x * z
    out[7] = 0.5 * _C2 * (xx - yy)
    out[8] = _C33 * y * (3.0 * xx - yy)
    out[9] = _C32 * x * y * z
    out[10] = _C31 * y * (5.0 * zz - 1.0)
    out[11] = _C30 * z * (5.0 * zz - 3.0)
    out[12] = _C31 * x * (5.0 * zz - 1.0)
    out[13] = 0.5 * _C32 * (xx - yy) * z
    out[14] = _C33 * x * (xx - 3.0 * yy)
    out[15] = _C44 * x * y * (xx - yy)
    out[16] = _C43 * y * (3.0 * xx - yy) * z
    out[17] = _C42 * x * y * (7.0 * zz - 1.0)
    out[18] = _C41 * y * z * (7.0 * zz - 3.0)
    out[19] = _C40 * (35.0 * zz * zz - 30.0 * zz + 3.0)
    out[20] = _C41 * x * z * (7.0 * zz - 3.0)
    out[21] = 0.5 * _C42 * (xx - yy) * (7.0 * zz - 1.0)
    out[22] = _C43 * x * (xx - 3.0 * yy) * z
    out[23] = 0.25 * _C44 * (xx * (xx - 3.0 * yy) - yy * (3.0 * xx - yy))


@compiled
def harmonics_pullback(x, y, z, d):  # type: ignore[no-untyped-def]
    """Σ_m d_m ∂Y_m/∂(x, y, z) of the polynomials in `harmonics`."""
    xx, yy, zz = x * x, y * y, z * z
    a, b, c = 5.0 * zz - 1.0, 7.0 * zz - 1.0, 7.0 * zz - 3.0
    gx = _C1 * d[2] + _C2 * (y * d[3] + z * d[6] + x * d[7])
    gy = _C1 * d[0] + _C2 * (x * d[3] + z * d[4] - y * d[7])
    gz = _C1 * d[1] + _C2 * (y * d[4] + x * d[6]) + 6.0 * _C20 * z * d[5]
    gx += _C33 * (6.0 * x * y * d[8] + 3.0 * (xx - yy) * d[14]) + _C32 * z * (y * d[9] + x * d[13]) + _C31 * a * d[12]
    gy += _C33 * (3.0 * (xx - yy) * d[8] - 6.0 * x * y * d[14]) + _C32 * z * (x * d[9] - y * d[13]) + _C31 * a * d[10]
    gz += _C32 * (x * y * d[9] + 0.5 * (xx - yy) * d[13]) + 10.0 * _C31 * z * (y * d[10] + x * d[12])
    gz += _C30 * (15.0 * zz - 3.0) * d[11]
    gx += _C44 * (y * (3.0 * xx - yy) * d[15] + x * (xx - 3.0 * yy) * d[23])
    gy += _C44 * (x * (xx - 3.0 * yy) * d[15] + y * (yy - 3.0 * xx) * d[23])
    gx += _C43 * z * (6.0 * x * y * d[16] + 3.0 * (xx - yy) * d[22]) + _C42 * b * (y * d[17] + x * d[21])
    gy += _C43 * z * (3.0 * (xx - yy) * d[16] - 6.0 * x * y * d[22]) + _C42 * b * (x * d[17] - y * d[21])
    gx += _C41 * z * c * d[20]
    gy += _C41 * z * c * d[18]
    gz += _C43 * (y * (3.0 * xx - yy) * d[16] + x * (xx - 3.0 * yy) * d[22])
    gz += _C42 * (14.0 * x * y * z * d[17] + 7.0 * (xx - yy) * z * d[21])
    gz += _C41 * (21.0 * zz - 3.0) * (y * d[18] + x * d[20]) + _C40 * z * (140.0 * zz - 60.0) * d[19]
    return gx, gy, gz
