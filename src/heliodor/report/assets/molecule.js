"use strict";
// One film: frames unpacked, what atoms look like under each style and colouring.
const molecule = (() => {
  const ELEMENTS = { 1: "#d5d8da", 2: "#9fd6d6", 3: "#8f62c4", 5: "#d9a08c", 6: "#858d95", 7: "#4672d0", 8: "#d3473f",
    9: "#63b35a", 11: "#7f5cc0", 12: "#5d9440", 14: "#b79a6f", 15: "#dd8433", 16: "#d6b335", 17: "#4fae52", 19: "#7a4cb5",
    20: "#4f8f4a", 26: "#c06a35", 29: "#b9763a", 30: "#7b80aa", 34: "#cf962d", 35: "#96432f", 53: "#7d2f86" };
  const RADII = { 1: 1.1, 5: 1.9, 6: 1.7, 7: 1.55, 8: 1.5, 9: 1.45, 14: 2.1, 15: 1.8, 16: 1.8, 17: 1.75, 34: 1.9, 35: 1.85,
    53: 1.98 };
  const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16) / 255);
  const CYCLE = ["#3a80c2", "#d4722a", "#36976a", "#b0559a", "#a3902f", "#cc4b4b", "#6470d2", "#4f97a6"].map(rgb);

  // blue to red through green, of even lightness
  function rainbow(t) {
    const hue = (1 - t) * 0.68, found = [0, 0, 0];
    for (let k = 0; k < 3; k++) {
      const x = Math.abs(((hue + [0, 2 / 3, 1 / 3][k]) % 1) * 6 - 3) - 1;
      found[k] = 0.22 + 0.6 * Math.min(1, Math.max(0, x));
    }
    return found;
  }

  async function unpack(data) {
    const raw = await heliodor.inflate(data.positions), n = 3 * data.atoms, total = n * data.frames;
    const whole = new Int16Array(total);
    for (let k = 0; k < total; k++) whole[k] = raw[k] | (raw[total + k] << 8);
    for (let k = n; k < total; k++) whole[k] += whole[k - n];
    return whole;
  }

  class Molecule {
    constructor(data, whole) {
      Object.assign(this, { data, whole, n: data.atoms, frames: data.frames, positions: new Float32Array(3 * data.atoms) });
      this.isSolvent = new Uint8Array(this.n);
      for (const k of data.solvent) this.isSolvent[k] = 1;
      this.main = Array.from({ length: this.n }, (_, k) => k).filter((k) => !this.isSolvent[k]);
      this.go(0);
    }

    go(frame) {
      this.frame = frame;
      const begin = 3 * this.n * frame, { grain } = this.data;
      for (let k = 0; k < 3 * this.n; k++) this.positions[k] = this.whole[begin + k] * grain;
    }

    // half the size of what is shown: of the solute, or with all in the cell
    reach(everything) {
      const saved = this.frame;
      let most = 1;
      for (const frame of new Set([0, this.frames >> 1, this.frames - 1])) {
        this.go(frame);
        for (const k of everything ? Array(this.n).keys() : this.main) most = Math.max(most, Math.hypot(...this.positions.subarray(3 * k, 3 * k + 3)));
      }
      this.go(saved);
      return most;
    }

    colours(scheme) {
      const found = new Float32Array(3 * this.n), { numbers, residues, molecules } = this.data;
      const groups = scheme === "residue" ? residues : molecules;
      const mine = this.main.map((k) => groups[k]);
      const least = mine.reduce((a, b) => Math.min(a, b), Infinity), most = mine.reduce((a, b) => Math.max(a, b), 0);
      for (let k = 0; k < this.n; k++) {
        let colour = rgb(ELEMENTS[numbers[k]] || "#4f97a6");
        if (scheme === "residue" && !this.isSolvent[k]) colour = rainbow(most > least ? (groups[k] - least) / (most - least) : 0.5);
        if (scheme === "molecule") colour = CYCLE[groups[k] % CYCLE.length];
        // carbons and backbones carry the scheme, hydrogens stay pale
        if (scheme !== "element" && numbers[k] === 1) colour = colour.map((v) => 0.5 * v + 0.42);
        found.set(colour, 3 * k);
      }
      return found;
    }

    radius(k, style) {
      const full = RADII[this.data.numbers[k]] || 1.9;
      if (style === "spheres") return full;
      if (style === "balls") return this.bonded(k) ? 0.24 * full : 0.45 * full;
      return this.bonded(k) ? 0.15 : 0.45 * full;
    }

    bonded(k) {
      if (!this.partners) {
        this.partners = new Uint8Array(this.n);
        for (const a of this.data.bonds) this.partners[a] = 1;
      }
      return this.partners[k];
    }

    // fill a scene with everything but the ribbon
    fill(scene, style, scheme, solvent) {
      const colours = this.colours(scheme), { bonds, numbers } = this.data;
      const atoms = { indices: [], radii: [], colours: [] }, sticks = { ends: [], radii: [], colours: [] };
      const lines = { indices: [], colours: [] };
      const tint = (k) => [colours[3 * k], colours[3 * k + 1], colours[3 * k + 2]];
      const how = (k) => (this.isSolvent[k] ? (solvent === "sticks" ? "sticks" : solvent === "lines" ? "lines" : "none")
        : style === "ribbon" ? (this.inRibbon(k) ? "none" : "sticks") : style);
      for (let k = 0; k < this.n; k++) {
        const style = how(k);
        if (style === "none" || (style === "lines" && this.bonded(k))) continue;
        atoms.indices.push(k);
        atoms.radii.push(style === "lines" ? 0.4 : this.radius(k, style));
        atoms.colours.push(...tint(k));
      }
      for (let b = 0; b < bonds.length; b += 2) {
        const [i, j] = [bonds[b], bonds[b + 1]], style = how(i);
        if (style === "none" || style === "spheres") continue;
        if (style === "lines") {
          const dim = (k) => (numbers[k] === 1 ? [0.62, 0.66, 0.7] : tint(k));
          lines.indices.push(i, j);
          lines.colours.push(...dim(i), ...dim(j));
          continue;
        }
        const radius = style === "balls" ? 0.11 : 0.15;
        for (const [from, to] of [[i, j], [j, i]]) {
          sticks.ends.push(from, to);
          sticks.radii.push(radius);
          sticks.colours.push(...tint(from));
        }
      }
      const packed = (values) => Float32Array.from(values);
      scene.spheres("atoms", packed(atoms.indices), packed(atoms.radii), packed(atoms.colours));
      scene.sticks("bonds", packed(sticks.ends), packed(sticks.radii), packed(sticks.colours));
      scene.lines("solvent", packed(lines.indices), packed(lines.colours));
      this.visible = atoms.indices;
      this.ribbonColours = scheme === "element" ? this.colours("residue") : colours;
    }

    inRibbon(k) {
      if (!this.covered) {
        const within = new Set(this.data.traces.flat().map((a) => this.data.residues[a]));
        this.covered = Uint8Array.from(this.data.residues, (r) => (within.has(r) ? 1 : 0));
      }
      return this.covered[k];
    }

    // corners of the cell about the origin, as 12 edges
    box() {
      const { cell } = this.data;
      if (!cell) return null;
      const from = cell.length > 9 ? 9 * this.frame : 0, edges = [];
      const corner = (f) => [0, 1, 2].map((a) => f.reduce((sum, x, k) => sum + (x - 0.5) * cell[from + 3 * k + a], 0));
      for (let axis = 0; axis < 3; axis++) {
        for (const [p, q] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
          const a = [p, q], b = [p, q];
          a.splice(axis, 0, 0);
          b.splice(axis, 0, 1);
          edges.push(...corner(a), ...corner(b));
        }
      }
      return Float32Array.from(edges);
    }
  }
  return { Molecule, unpack };
})();
