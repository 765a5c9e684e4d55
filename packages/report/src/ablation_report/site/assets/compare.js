// The page that compares two runs: two pickers, the choice in the address (?runs=a,b), and the
// tables of the pair from a file of its own. Which pairs `compare` takes follows from the conditions
// that each run was made under.
(() => {
  const box = document.querySelector(".compare-runs");
  if (!box) return;
  const { command, runs, pairs, folder } = JSON.parse(box.querySelector("script").textContent);
  const stored = new Set(pairs);
  const pending = {};
  window.ablationPair = (name, tables) => pending[name]?.(tables);

  function element(tag, content = [], attributes = {}) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...[content].flat());
    return made;
  }

  // In which respects two runs differ so that their times are not to be compared
  function differences(first, second) {
    const shareThreads = first.threads.some((n) => second.threads.includes(n));
    const found = Object.entries(first.conditions)
      .filter(([what, told]) => told !== second.conditions[what])
      .filter(([what]) => !(what === "threads" && shareThreads))
      .map(([what, told]) => `${what}: ${told} and ${second.conditions[what]}`);
    return first.hardware === second.hardware
      ? found
      : [...found, "instruction sets, caches and quota"];
  }

  function load(name) {
    return new Promise((resolve, reject) => {
      pending[name] = resolve;
      const script = element("script", [], { src: `${folder}/${name}.js` });
      script.addEventListener("error", () => reject(new Error(`${folder}/${name}.js is missing`)));
      document.head.append(script);
    });
  }

  const MARKS = { faster: "better", slower: "worse", same: "same", "not resolved": "unresolved" };

  function shownTable({ title, header, groups, notes, warnings }) {
    const verdict = header.indexOf("verdict");
    const cell = (text, i) => (i === verdict && MARKS[text] ? [text, text, MARKS[text]] : text);
    const table = window.ablationTables.built({
      columns: header.map((text, i) => ({ title: text, class: i ? "" : "left" })),
      groups: groups.map(([name, lines]) => [name, lines.map((line) => line.map(cell))]),
    });
    const parts = [element("h2", title)];
    parts.push(...warnings.map((text) => element("p", element("strong", text))));
    parts.push(element("div", table, { class: "data-table" }));
    if (notes.length) parts.push(element("ul", notes.map((text) => element("li", text))));
    return { parts, table };
  }

  const result = element("div", [], { class: "compare-result", "aria-live": "polite" });
  let shownName = "";

  async function show(a, b) {
    const [older, newer] = a < b ? [a, b] : [b, a];
    const [first, second] = [runs[older], runs[newer]];
    const name = (shownName = `${older}-${newer}`);
    const line = `${command} ${first.path} ${second.path}`;
    const parts = [];
    const told = differences(first, second);
    let tables = [];
    if (a === b) parts.push(element("p", "Choose two different runs."));
    else if (told.length) {
      parts.push(element("p", "These runs are not compared. They differ in:"));
      parts.push(element("ul", told.map((text) => element("li", text)), { class: "differences" }));
    } else if (!stored.has(name)) {
      parts.push(element("p", "This page has no table of this pair. The command prints it."));
    } else tables = (await load(name)).map(shownTable);
    if (shownName !== name) return;
    parts.push(...tables.flatMap((each) => each.parts));
    if (a !== b && !told.length)
      parts.push(element("p", ["The same in a terminal: ", element("code", line)]));
    result.replaceChildren(...parts);
    tables.forEach(({ table }) => window.ablationTables.add(table));
  }

  // The runs by suite, those first that can be compared with the other choice
  function fill(select, other) {
    const chosen = select.value;
    select.replaceChildren();
    const fits = (i) => other !== undefined && i !== other && !differences(runs[i], runs[other]).length;
    const groups = new Map();
    runs.forEach((run, i) => {
      const label = fits(i) ? "Comparable" : `${run.conditions.suite}, ${run.conditions.machine}`;
      if (!groups.has(label)) groups.set(label, []);
      groups.get(label).push(element("option", run.name, { value: i }));
    });
    const labels = [...groups.keys()].sort((x, y) => (y === "Comparable") - (x === "Comparable"));
    for (const label of labels) select.append(element("optgroup", groups.get(label), { label }));
    select.value = chosen;
  }

  const selects = ["Older run", "Newer run"].map((title) => {
    const select = element("select", [], { "aria-label": title });
    fill(select);
    return select;
  });

  // The choice in the address, else the newest stored pair of runs that are not noisy
  function chosen() {
    const named = (new URLSearchParams(location.search).get("runs") ?? "").split(",");
    const found = named.map((word) => runs.findIndex((run) => run.slug === word || run.name === word));
    if (found.length === 2 && !found.includes(-1)) return found;
    return (pairs[0] ?? "0-1").split("-").map(Number);
  }

  function choose(a, b, isNew) {
    selects[0].value = a;
    selects[1].value = b;
    fill(selects[1], Number(a));
    selects[1].value = b;
    if (isNew) {
      const address = new URL(location.href);
      // A comma may stand in an address as it is
      const others = [...address.searchParams].filter(([key]) => key !== "runs");
      const query = new URLSearchParams(others).toString();
      address.search = `${query ? `${query}&` : ""}runs=${runs[a].slug},${runs[b].slug}`;
      history.replaceState(history.state, "", address);
    }
    show(Number(a), Number(b)).catch((error) => result.replaceChildren(element("p", error.message)));
  }

  for (const select of selects)
    select.addEventListener("change", () => choose(...selects.map((each) => each.value), true));
  const labels = selects.map((select) =>
    element("label", [element("span", select.getAttribute("aria-label")), select]),
  );
  box.append(...labels);
  box.after(result);
  // The script of the tables may come after this one
  const start = () => choose(...chosen(), false);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
