"use strict";
// Figures from the page's data. Traces have colours that show on light and dark; everything else follows the style sheet.
(() => {
  const { data, bytes, floats } = heliodor;
  const COLOURS = ["#3a80c2", "#d4722a", "#36976a", "#b0559a", "#8f7c2d", "#cc4b4b", "#6470d2", "#4f97a6"];
  const REFERENCE = "#868c93";
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const LETTERS = { H: "#c25f58", G: "#dda258", I: "#8f5a88", P: "#9a8cc9", E: "#4f88bd", B: "#6ba4ae", T: "#93b998",
    S: "#c9cc96" };
  const SEQUENTIAL = [[0, "#f3ecd9"], [0.2, "#bfd6b5"], [0.4, "#76b6ac"], [0.6, "#3b8aa3"], [0.8, "#2b5a8c"], [1, "#2a2a5e"]];
  const DIVERGING = [[0, "#2f5f9e"], [0.25, "#8ab1d6"], [0.5, "#f1efe9"], [0.75, "#dd9a7c"], [1, "#a63b32"]];

  // for single points, each shade visible on light and dark
  const COURSE = [[0, "#5560c4"], [0.25, "#3d93c4"], [0.5, "#3fab88"], [0.75, "#aead45"], [1, "#e0973a"]];

  // plotly reads a little markup in texts; names from files are to be read as they are
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shade = (hex, alpha) => `rgba(${[1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)).join(",")},${alpha})`;

  // a title longer than the figure is high goes on two lines
  const broken = (text) => (text.length > 34 ? text.replace(/^(.{14,}) (?=\S{1,24}$|\()/, "$1<br>") : text);

  function axis(given, values) {
    const found = {
      title: { text: broken(plain(given.title)), standoff: 8 }, automargin: true, zeroline: false, showline: true, ticks: "outside",
      ticklen: 4, linecolor: "#c4c8cc", tickcolor: "#c4c8cc", gridcolor: "#e9eae8", exponentformat: "power", nticks: 8,
    };
    if (given.log) {
      found.type = "log";
      const there = Array.from(values()).filter((v) => v > 0);
      const decades = Math.log10(there.reduce((a, b) => Math.max(a, b), 1e-300) / there.reduce((a, b) => Math.min(a, b), 1e300));
      if (decades > 1.5) Object.assign(found, { dtick: decades > 8 ? 2 : 1, nticks: undefined });
    }
    let [low, high] = [given.low, given.high];
    if (low !== null || high !== null) {
      if (low === null || high === null) {
        const there = values().filter((v) => Number.isFinite(v) && (!given.log || v > 0));
        const [least, most] = there.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
        const room = given.log ? 0 : 0.05 * (most - least);
        if (low === null) low = least - room;
        if (high === null) high = most + room;
      }
      const ends = given.log ? [Math.log10(low), Math.log10(high)] : [low, high];
      if (ends.every(Number.isFinite) && ends[0] < ends[1]) found.range = ends;
    }
    return found;
  }

  function band(x, low, high, colour, name) {
    const px = [], py = [];
    let from = 0;
    const close = (to) => {
      if (to - from > 1) {
        for (let k = from; k < to; k++) { px.push(x[k]); py.push(high[k]); }
        for (let k = to - 1; k >= from; k--) { px.push(x[k]); py.push(low[k]); }
        px.push(null); py.push(null);
      }
      from = to + 1;
    };
    for (let k = 0; k <= x.length; k++) if (k === x.length || !(Number.isFinite(low[k]) && Number.isFinite(high[k]))) close(k);
    return { type: "scatter", mode: "lines", x: px, y: py, fill: "toself", fillcolor: shade(colour, 0.22), line: { width: 0 },
      hoverinfo: "skip", showlegend: false, legendgroup: name };
  }

  function traces(figure) {
    const found = [];
    figure.curves.forEach((curve, place) => {
      const colour = curve.reference ? REFERENCE : COLOURS[curve.colour % COLOURS.length];
      const x = floats(curve.x), y = floats(curve.y), name = plain(curve.name);
      const group = `${place}`;
      if (curve.low) {
        const low = floats(curve.low), high = floats(curve.high);
        if (curve.style === "points") {
          found.push({ type: "scatter", mode: "markers", x, y, name, legendgroup: group, marker: { color: colour, size: 6 },
            error_y: { type: "data", symmetric: false, array: high.map((v, k) => v - y[k]),
              arrayminus: low.map((v, k) => y[k] - v), color: colour, thickness: 1.2, width: 3 }, showlegend: name !== "" });
          return;
        }
        found.push(band(x, low, high, colour, group));
      }
      const trace = { type: "scatter", x, y, name, legendgroup: group, showlegend: name !== "",
        hovertemplate: `%{x:.5~g}, %{y:.5~g}<extra>${name}</extra>` };
      if (curve.style === "points") {
        trace.mode = "markers";
        trace.marker = { color: colour, size: curve.reference ? 9 : (x.length > 1500 ? 3 : 5), opacity: curve.reference ? 1 : 0.75,
          symbol: curve.reference ? "cross-thin" : "circle", line: curve.reference ? { width: 2, color: REFERENCE } : { width: 0 } };
        // a few known points are told by their names, not by a legend
        if (curve.reference && name && x.length <= 3) Object.assign(trace, { mode: "markers+text", showlegend: false,
          text: Array.from(x, () => name), textposition: "top center", textfont: { size: 10 }, cliponaxis: true });
        if (curve.colours) {
          const given = curve.colour_axis;
          trace.showlegend = false;
          Object.assign(trace.marker, { color: floats(curve.colours), colorscale: COURSE, opacity: 0.9,
            colorbar: bar(given ? given.title : "") });
          if (given && given.low !== null) trace.marker.cmin = given.low;
          if (given && given.high !== null) trace.marker.cmax = given.high;
          trace.hovertemplate = `%{x:.5~g}, %{y:.5~g}<br>%{marker.color:.5~g}<extra>${name}</extra>`;
        }
      } else {
        trace.mode = "lines";
        trace.line = { color: colour, width: curve.reference ? 1.6 : (x.length > 1200 ? 1 : 1.7),
          dash: curve.style === "dashed" || curve.reference ? "dash" : DASHES[curve.dash % DASHES.length],
          shape: curve.style === "steps" ? "hvh" : "linear" };
      }
      found.push(trace);
    });
    return found;
  }

  const bar = (title) => ({ title: { text: plain(title), side: "right", font: { size: 12 } }, thickness: 10, outlinewidth: 0,
    tickfont: { size: 11 }, len: 1, exponentformat: "power" });

  function map(figure, below) {
    const heat = figure.heat, x = floats(heat.x), y = floats(heat.y), z = [];
    const flat = heat.kinds.length ? Float32Array.from(new Int8Array(bytes(heat.z).buffer), (v) => (v < 0 ? NaN : v)) : floats(heat.z);
    for (let k = 0; k < y.length; k++) z.push(flat.subarray(k * x.length, (k + 1) * x.length));
    const trace = { type: "heatmap", x, y, z, hoverongaps: false, zsmooth: false };
    const rows = heat.names.length ? heat.names.map(plain) : null;
    if (rows) trace.customdata = z.map((row, k) => Array.from(row, () => rows[k]));
    const where = rows ? "%{x:.5~g}, %{customdata}" : "%{x:.5~g}, %{y:.5~g}";
    if (heat.kinds.length) {
      const colours = heat.kinds.map(([letter], k) => LETTERS[letter] || (/^[\s_C~-]?$/.test(letter) ? "rgba(140,150,160,0.22)" : COLOURS[k % 8]));
      const n = colours.length;
      trace.colorscale = colours.flatMap((c, k) => [[k / n, c], [(k + 1) / n, c]]);
      Object.assign(trace, { zmin: -0.5, zmax: n - 0.5, showscale: false });
      trace.text = z.map((row) => Array.from(row, (v) => (heat.kinds[v] ? plain(heat.kinds[v][1]) : "")));
      trace.hovertemplate = `${where}<br>%{text}<extra></extra>`;
      heat.kinds.forEach(([letter, meaning], k) => {
        const key = document.createElement("span"), patch = document.createElement("i");
        patch.style.background = colours[k];
        key.append(patch, letter.trim() && letter !== meaning ? `${letter} ${meaning}` : meaning);
        below.append(key);
      });
    } else {
      const given = heat.axis, there = flat.filter(Number.isFinite);
      const least = there.reduce((a, b) => Math.min(a, b), Infinity), most = there.reduce((a, b) => Math.max(a, b), -Infinity);
      const low = given.low ?? least, high = given.high ?? most;
      if (given.log) {
        trace.z = z.map((row) => row.map((v) => (v > 0 ? Math.log10(v) : NaN)));
        trace.colorbar = Object.assign(bar(given.title), { tickprefix: "10<sup>", ticksuffix: "</sup>" });
      } else {
        const both = low < 0 && high > 0 && Math.min(-low, high) > 0.15 * Math.max(-low, high);
        const most = Math.max(-low, high);
        Object.assign(trace, both ? { zmin: -most, zmax: most } : { zmin: low, zmax: high });
        trace.colorscale = both ? DIVERGING : SEQUENTIAL;
        trace.colorbar = bar(given.title);
      }
      trace.colorscale ??= SEQUENTIAL;
      trace.hovertemplate = `${where}<br>%{z:.4~g}<extra></extra>`;
    }
    return { trace, rows, y };
  }

  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: "#1c2126" };
  function draw(place) {
    const figure = data.figures[Number(place.dataset.figure)];
    const below = place.parentElement.querySelector(".keys");
    below.replaceChildren();
    const drawn = traces(figure);
    const all = (key) => () => figure.curves.flatMap((curve) => Array.from(floats(curve[key])));
    const layout = {
      xaxis: axis(figure.x, all("x")), yaxis: axis(figure.y, all("y")), font, margin: { l: 54, r: 12, t: 10, b: 44 },
      paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", hovermode: "closest", dragmode: "zoom", showlegend: false,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, itemwidth: 30 },
      hoverlabel: { bgcolor: "#f3f3f0", bordercolor: "#9aa0a6", font: { size: 12 } },
    };
    const named = drawn.filter((trace) => trace.showlegend);
    layout.showlegend = named.length > 1 || (named.length === 1 && figure.heat !== null);
    if (!layout.showlegend && named.length === 1) {
      layout.showlegend = figure.curves.filter((c) => c.name === "" || c.reference).length > 0 && !figure.curves[0].colours
        && !drawn.some((trace) => trace.mode === "markers+text");
    }
    // room for a legend of several lines
    const lines = layout.showlegend ? Math.ceil(named.reduce((sum, t) => sum + t.name.length * 6.2 + 56, 0) / Math.max(200, place.clientWidth - 70)) : 0;
    const square = figure.heat === null || !figure.heat.names.length ? ["low", "high"].every((k) => figure.x[k] !== null && figure.x[k] === figure.y[k]) : false;
    if (square) {
      place.style.height = "24rem";
      place.dataset.square = "yes";
    } else if (lines > 2) {
      place.style.height = `${20 * 16 + 19 * (lines - 2)}px`;
      place.dataset.lines = String(lines);
    }
    if (figure.heat) {
      const { trace, rows, y } = map(figure, below);
      drawn.unshift(trace);
      layout.xaxis.showgrid = layout.yaxis.showgrid = false;
      if (rows) {
        const height = Math.min(900, Math.max(220, 13 * rows.length + 70));
        place.style.height = `${height}px`;
        const every = Math.ceil(rows.length / Math.max(1, Math.floor((height - 60) / 13)));
        const shown = rows.map((_, k) => k).filter((k) => k % every === 0);
        Object.assign(layout.yaxis, { tickmode: "array", tickvals: shown.map((k) => y[k]), ticktext: shown.map((k) => rows[k]),
          tickfont: { size: 10 }, showline: false, ticks: "" });
      }
    }
    Plotly.newPlot(place, drawn, layout, { responsive: true, displayModeBar: false, displaylogo: false, doubleClick: "reset" });
  }

  const places = [...document.querySelectorAll(".plot[data-figure]")];
  function safely(place) {
    try {
      draw(place);
    } catch (error) {
      place.textContent = `This figure could not be drawn: ${error.message}`;
      console.error(error);
    }
    place.dataset.drawn = "yes";
  }
  const waiting = [...places];
  function next() {
    const begun = performance.now();
    while (waiting.length && performance.now() - begun < 40) safely(waiting.shift());
    if (waiting.length) setTimeout(next, 0);
    else document.documentElement.dataset.figures = "drawn";
  }

  const saved = (place) => data.figures[Number(place.dataset.figure)].file;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-plot]");
    if (!button) return;
    const place = button.closest("figure").querySelector(".plot");
    if (button.dataset.plot === "reset") {
      const figure = data.figures[Number(place.dataset.figure)], change = {};
      for (const name of ["xaxis", "yaxis"]) {
        const range = axis(figure[name[0]], () => figure.curves.flatMap((c) => Array.from(floats(c[name[0]])))).range;
        if (range) change[`${name}.range`] = range; else change[`${name}.autorange`] = true;
      }
      Plotly.relayout(place, change);
    } else {
      Plotly.downloadImage(place, { format: button.dataset.plot, filename: saved(place), width: 900, height: 600,
        scale: button.dataset.plot === "png" ? 2 : 1 });
    }
  });

  // A4: 180 mm are 680 px; two columns beside each other, a map alone
  function paper() {
    while (waiting.length) safely(waiting.shift());
    for (const place of places) {
      const figure = place.closest("figure");
      if (!place._fullLayout) continue;
      const width = figure.classList.contains("wide") ? 670 : figure.parentElement.classList.contains("lone") ? 470 : 325;
      const height = place.dataset.square ? 330 : place.dataset.lines ? 205 + 36 * Number(place.dataset.lines) : place.style.height ? undefined : 240;
      Plotly.relayout(place, height ? { width, height, autosize: false } : { width, autosize: false });
    }
  }
  function screen() {
    for (const place of places) if (place._fullLayout) Plotly.relayout(place, { width: null, height: null, autosize: true });
  }
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("main details")) folded.open = true;
    paper();
  });
  addEventListener("afterprint", screen);
  setTimeout(next, 0);
})();
