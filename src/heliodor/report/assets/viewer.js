"use strict";
// The viewer: mouse, touch, keys, play, and what is shown how.
(() => {
  const home = document.getElementById("viewer");
  if (!home) return;
  const find = (name) => home.querySelector(`[data-part="${name}"]`);
  const canvas = find("canvas"), slider = find("slider"), output = find("time"), label = find("label"), play = find("play");
  const films = heliodor.data.films;

  function fallBack(words) {
    const message = find("message");
    message.textContent = words;
    message.hidden = false;
    find("still").hidden = false;
    for (const name of ["canvas", "transport", "controls", "label"]) find(name).hidden = true;
    home.dataset.state = "still";
  }

  if (!heliodor.canInflate) {
    fallBack("This browser is too old to unpack the frames (it lacks DecompressionStream); the picture shows the first one.");
    return;
  }
  let scene;
  try {
    scene = new molecularGL.Scene(canvas);
  } catch {
    fallBack("The viewer needs WebGL 2, which this browser does not offer; the picture shows the first frame.");
    return;
  }

  const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  let shown = null, turn = IDENTITY.slice(), zoom = 1, shift = [0, 0], reach = 10, playing = 0, asked = false, touched = false;
  const chosen = (name) => find(name)?.value;
  const ticked = (name) => Boolean(find(name)?.checked);

  // matrices are columns after each other, as WebGL has them
  function times(a, b) {
    const found = new Array(9).fill(0);
    for (let c = 0; c < 3; c++) for (let r = 0; r < 3; r++) for (let k = 0; k < 3; k++) found[3 * c + r] += a[3 * k + r] * b[3 * c + k];
    return found;
  }
  function about(x, y, angle) {
    const [c, s, n] = [Math.cos(angle), Math.sin(angle), Math.hypot(x, y) || 1], u = x / n, v = y / n;
    return [c + u * u * (1 - c), u * v * (1 - c), -v * s, u * v * (1 - c), c + v * v * (1 - c), u * s, v * s, -u * s, c];
  }
  function held() {
    if (!ticked("hold")) return turn;
    const rows = shown.data.turns.slice(9 * shown.frame, 9 * shown.frame + 9);
    // stored by rows
    return times(turn, [rows[0], rows[3], rows[6], rows[1], rows[4], rows[7], rows[2], rows[5], rows[8]]);
  }

  function view() {
    const [w, h] = [canvas.width, canvas.height], half = (1.12 * reach) / zoom, small = Math.min(w, h);
    return { turn: Float32Array.from(held()), scale: [small / w / half, small / h / half], shift, depth: 3 * deepest, haze: 1.1 * reach };
  }

  let deepest = 10;
  function paint() {
    asked = false;
    if (!shown) return;
    const ratio = Math.max(2, Math.min(3, devicePixelRatio || 1));
    const [w, h] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (w && h && (canvas.width !== w || canvas.height !== h)) Object.assign(canvas, { width: w, height: h });
    scene.move(shown.positions);
    if (chosen("style") === "ribbon" && shown.data.traces.length) {
      const { point, facing, colour } = ribbon.all(shown.positions, shown.data.traces, shown.ribbonColours);
      scene.points("ribbon", "mesh", scene.gl.TRIANGLES, point, facing, colour);
    } else scene.remove("ribbon");
    const box = ticked("box") ? shown.box() : null;
    if (box) scene.points("box", "frame", scene.gl.LINES, box, null, new Float32Array(box.length).fill(0.55));
    else scene.remove("box");
    scene.draw(view());
  }
  function ask() {
    if (!asked) requestAnimationFrame(paint);
    asked = true;
  }

  function dress() {
    if (!shown) return;
    shown.fill(scene, chosen("style"), chosen("colour"), chosen("solvent") || "none");
    ask();
  }

  function time(frame) {
    const ps = shown.data.times[frame], last = shown.data.times[shown.frames - 1];
    const text = last >= 1e4 ? `${(ps / 1e3).toFixed(3)} ns` : `${ps.toFixed(last >= 100 ? 1 : 3)} ps`;
    return `${text} · frame ${shown.data.indices[frame] + 1}`;
  }
  function go(frame) {
    shown.go(frame);
    slider.value = String(frame);
    output.textContent = time(frame);
    slider.setAttribute("aria-valuetext", time(frame));
    ask();
  }

  function reset() {
    const rows = shown?.data.start ?? [];
    const first = rows.length ? [0, 3, 6, 1, 4, 7, 2, 5, 8].map((k) => rows[k]) : about(0, 1, 0.35);
    [turn, zoom, shift] = [times(about(1, 0, 0.2), first), 1, [0, 0]];
    if (rows.length && canvas.clientHeight) {
      // long molecules lie across: as large as they fit as they lie
      const wide = Math.max(1, canvas.clientWidth / canvas.clientHeight);
      let [across, up] = [0, 0];
      for (const k of shown.main) {
        const at = [0, 1].map((r) => [0, 1, 2].reduce((sum, c) => sum + turn[3 * c + r] * shown.positions[3 * k + c], 0));
        [across, up] = [Math.max(across, Math.abs(at[0])), Math.max(up, Math.abs(at[1]))];
      }
      zoom = Math.min(1.9, Math.max(1, Math.min((reach * wide) / (across + 1), reach / (up + 1)) * 0.97));
    }
    label.textContent = "";
    ask();
  }

  // half of what is seen: with solvent around, between the solute and all of it
  function extent() {
    if (shown.data.cell === null) return shown.reach(false);
    if (!shown.data.solvent.length) return shown.reach(true);
    return chosen("solvent") === "none" ? shown.reach(false) : Math.sqrt(shown.reach(false) * shown.reach(true));
  }

  async function load(k) {
    stop();
    const data = films[k];
    shown = new molecule.Molecule(data, data.whole ?? (data.whole = await molecule.unpack(data)));
    slider.max = String(shown.frames - 1);
    slider.disabled = play.disabled = shown.frames < 2;
    reach = extent();
    deepest = Math.max(shown.reach(true), reach);
    for (const option of find("style").options) if (option.value === "ribbon") option.hidden = option.disabled = !data.traces.length;
    if (!touched) {
      const folded = data.traces.some((t) => t.length >= 12);
      [find("style").value, find("colour").value] = folded ? ["ribbon", "residue"] : ["balls", "element"];
    }
    else if (!data.traces.length && chosen("style") === "ribbon") find("style").value = "balls";
    find("solvents").hidden = !data.solvent.length;
    find("boxes").hidden = !data.cell;
    scene.move(shown.positions);
    dress();
    go(0);
    reset();
    home.dataset.state = "ready";
  }

  let last = 0;
  function tick(now) {
    if (!playing) return;
    const per = 1000 / Number(chosen("speed") || 25);
    if (now - last >= per) {
      last = now;
      go((shown.frame + 1) % shown.frames);
    }
    playing = requestAnimationFrame(tick);
  }
  function stop() {
    if (playing) cancelAnimationFrame(playing);
    playing = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  function start() {
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    playing = requestAnimationFrame(tick);
  }
  play.addEventListener("click", () => (playing ? stop() : start()));
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  for (const name of ["style", "colour"]) find(name).addEventListener("change", () => { touched = true; dress(); });
  find("solvent").addEventListener("change", () => {
    reach = extent();
    dress();
  });
  for (const name of ["box", "hold"]) find(name).addEventListener("change", ask);
  find("run")?.addEventListener("change", (event) => load(Number(event.target.value)));
  find("reset").addEventListener("click", reset);
  find("save").addEventListener("click", () => {
    paint();
    const flat = document.createElement("canvas"), pen = flat.getContext("2d");
    [flat.width, flat.height] = [canvas.width, canvas.height];
    pen.fillStyle = getComputedStyle(document.body).backgroundColor;
    pen.fillRect(0, 0, flat.width, flat.height);
    pen.drawImage(canvas, 0, 0);
    flat.toBlob((blob) => heliodor.save(blob, `${heliodor.data.runs[Number(chosen("run") || 0)]}_frame_${shown.data.indices[shown.frame] + 1}.png`));
  });

  // the nearest visible atom under a place on the canvas
  function under(event) {
    const box = canvas.getBoundingClientRect(), { turn: m, scale, shift: s } = view();
    const x = (2 * (event.clientX - box.left)) / box.width - 1, y = 1 - (2 * (event.clientY - box.top)) / box.height;
    let best = -1, nearest = -Infinity;
    const among = chosen("style") === "ribbon" ? shown.visible.concat(shown.data.traces.flat()) : shown.visible;
    for (const k of among) {
      const [a, b, c] = shown.positions.subarray(3 * k, 3 * k + 3);
      const ex = (m[0] * a + m[3] * b + m[6] * c + s[0]) * scale[0], ey = (m[1] * a + m[4] * b + m[7] * c + s[1]) * scale[1];
      const z = m[2] * a + m[5] * b + m[8] * c, r = Math.max(0.4, shown.radius(k, chosen("style") === "ribbon" ? "spheres" : chosen("style")));
      if (Math.hypot((ex - x) / scale[0], (ey - y) / scale[1]) < r && z > nearest) [best, nearest] = [k, z];
    }
    return best;
  }

  const pointers = new Map();
  let pinch = 0, moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    [pinch, moved] = [0, false];
  });
  const angstrom = () => { const { scale } = view(); return [2 / canvas.clientWidth / scale[0], 2 / canvas.clientHeight / scale[1]]; };
  canvas.addEventListener("pointermove", (event) => {
    if (!shown) return;
    const before = pointers.get(event.pointerId);
    if (!before) {
      const k = under(event);
      label.textContent = k < 0 ? "" : shown.data.labels[k];
      return;
    }
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    moved ||= Math.hypot(dx, dy) > 2;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()], far = Math.hypot(a[0] - b[0], a[1] - b[1]), [u, v] = angstrom();
      if (pinch) zoom = Math.min(40, Math.max(0.2, (zoom * far) / pinch));
      pinch = far;
      shift = [shift[0] + 0.5 * dx * u, shift[1] - 0.5 * dy * v];
    } else if (event.shiftKey || event.buttons & 6) {
      const [u, v] = angstrom();
      shift = [shift[0] + dx * u, shift[1] - dy * v];
    } else if (dx || dy) turn = times(about(dy, dx, 0.008 * Math.hypot(dx, dy)), turn);
    ask();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      pinch = 0;
      if (name === "pointerup" && !moved && shown) {
        const k = under(event);
        label.textContent = k < 0 ? "" : shown.data.labels[k];
      }
    });
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    // the page scrolls on unless the viewer was clicked into
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom = Math.min(40, Math.max(0.2, zoom * Math.exp(-0.0012 * event.deltaY)));
    ask();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!shown || event.ctrlKey || event.metaKey || event.altKey) return;
    const spin = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const step = { ",": -1, ".": 1 }[event.key];
    if (spin) turn = times(about(spin[0], spin[1], 0.12), turn);
    else if (event.key === "+" || event.key === "=") zoom = Math.min(40, zoom * 1.15);
    else if (event.key === "-") zoom = Math.max(0.2, zoom / 1.15);
    else if (event.key === " ") play.click();
    else if (event.key === "Home" || event.key === "0") reset();
    else if (step) { stop(); go((shown.frame + step + shown.frames) % shown.frames); } else return;
    event.preventDefault();
    ask();
  });
  new ResizeObserver(ask).observe(canvas);
  heliodor.onTheme(ask);
  addEventListener("beforeprint", () => paint());
  canvas.addEventListener("webglcontextlost", () => fallBack("The graphics of this browser gave up; the picture shows the first frame."));
  load(0).catch((error) => { console.error(error); fallBack("The frames could not be unpacked; the picture shows the first one."); });
})();
