"use strict";
// A ribbon through the Cα atoms: Catmull-Rom curves with an oval cross section that lies flat against the turn of the chain.
const ribbon = (() => {
  const PIECES = 6, AROUND = 10, BROAD = 1.05, THIN = 0.28;
  const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const unit = (a) => { const n = Math.hypot(...a) || 1; return [a[0] / n, a[1] / n, a[2] / n]; };

  function spline(a, b, c, d, t) {
    const found = [0, 0, 0];
    for (let k = 0; k < 3; k++) {
      found[k] = 0.5 * (2 * b[k] + (c[k] - a[k]) * t + (2 * a[k] - 5 * b[k] + 4 * c[k] - d[k]) * t * t
        + (3 * b[k] - a[k] - 3 * c[k] + d[k]) * t * t * t);
    }
    return found;
  }

  // triangles of one chain piece: positions of all atoms, indices of its Cα, a colour for each
  function mesh(positions, trace, colours) {
    const at = trace.map((k) => Array.from(positions.subarray(3 * k, 3 * k + 3))), n = at.length;
    const flat = [];
    for (let k = 0; k < n; k++) {
      const [a, b, c] = [at[Math.max(0, Math.min(k - 1, n - 3))], at[Math.max(1, Math.min(k, n - 2))], at[Math.max(2, Math.min(k + 1, n - 1))]];
      let across = unit(cross(minus(b, a), minus(c, b)));
      if (k && dot(across, flat[k - 1]) < 0) across = across.map((v) => -v);
      flat.push(across);
    }
    const rings = [];
    for (let k = 0; k < n - 1; k++) {
      const four = [at[Math.max(0, k - 1)], at[k], at[k + 1], at[Math.min(n - 1, k + 2)]];
      for (let p = 0; p < PIECES + (k === n - 2 ? 1 : 0); p++) {
        const t = p / PIECES, centre = spline(...four, t);
        const along = unit(minus(spline(...four, t + 0.02), spline(...four, t - 0.02)));
        let across = flat[k].map((v, a) => (1 - t) * v + t * flat[k + 1][a]);
        across = unit(minus(across, along.map((v) => v * dot(across, along))));
        const up = cross(along, across), near = trace[t < 0.5 ? k : k + 1], ring = [];
        for (let s = 0; s <= AROUND; s++) {
          const angle = (2 * Math.PI * s) / AROUND, u = Math.cos(angle), v = Math.sin(angle);
          ring.push({ p: centre.map((x, a) => x + BROAD * u * across[a] + THIN * v * up[a]),
            n: unit(across.map((x, a) => (u / BROAD) * x + (v / THIN) * up[a])) });
        }
        rings.push({ ring, near });
      }
    }
    const point = [], facing = [], colour = [];
    const corner = ({ ring, near }, s) => {
      point.push(...ring[s].p); facing.push(...ring[s].n);
      colour.push(colours[3 * near], colours[3 * near + 1], colours[3 * near + 2]);
    };
    for (let k = 0; k + 1 < rings.length; k++) {
      for (let s = 0; s < AROUND; s++) {
        for (const [r, q] of [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]]) corner(rings[k + r], s + q);
      }
    }
    return { point, facing, colour };
  }

  function all(positions, traces, colours) {
    const parts = traces.map((trace) => mesh(positions, trace, colours));
    const joined = (key) => Float32Array.from(parts.flatMap((part) => part[key]));
    return { point: joined("point"), facing: joined("facing"), colour: joined("colour") };
  }
  return { all };
})();
