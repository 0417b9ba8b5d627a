"use strict";
// What the parts of the page share: its data, unpacking, downloads, the theme, the list of contents.
const heliodor = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;

  function bytes(base64) {
    const text = atob(base64), found = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) found[k] = text.charCodeAt(k);
    return found;
  }
  const floats = (base64) => new Float32Array(bytes(base64).buffer);

  const canInflate = typeof DecompressionStream !== "undefined";
  async function inflate(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const button of document.querySelectorAll("button[data-table]")) {
    if (!canInflate) {
      button.disabled = true;
      button.title = "This browser is too old to unpack the table; heliodor report --csv FOLDER writes it as a file.";
      continue;
    }
    button.addEventListener("click", async () => {
      const table = data.tables[Number(button.dataset.table)];
      save(new Blob([await inflate(table.text)], { type: "text/csv;charset=utf-8" }), table.name);
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      let copied = false;
      try {
        await navigator.clipboard.writeText(source.textContent);
        copied = true;
      } catch {
        // pages opened from a disk may not write to the clipboard: mark the text instead
        getSelection().selectAllChildren(source);
      }
      button.textContent = copied ? "Copied" : "Marked: press Ctrl-C";
    });
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const themed = [];
  function told() {
    toggle.textContent = isDark() ? "Light" : "Dark";
    for (const tell of themed) tell();
  }
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    told();
  });
  dark.addEventListener("change", told);
  told();

  const contents = document.querySelector(".contents details");
  if (contents && matchMedia("(max-width: 64rem)").matches) contents.open = false;
  const links = new Map();
  for (const link of document.querySelectorAll(".contents a")) {
    const target = document.getElementById(link.hash.slice(1));
    if (target) links.set(target, link);
  }
  function here() {
    let found = null;
    for (const target of links.keys()) if (target.getBoundingClientRect().top < 140) found = target;
    for (const [target, link] of links) link.classList.toggle("here", target === found);
  }
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; here(); });
  }, { passive: true });
  here();

  return { data, bytes, floats, inflate, canInflate, save, isDark, onTheme: (tell) => themed.push(tell) };
})();
