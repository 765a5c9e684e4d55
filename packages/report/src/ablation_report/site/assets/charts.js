// Draws the charts of a page once they are shown, and again when the page turns dark or light. The
// chart library is loaded by the first page that has a chart. The build writes the looks that all
// charts share above: ablationChartConfig.
(() => {
  const LIBRARY = new URL("vega-bundle.js", document.currentScript.src).href;
  const INK = { light: "#ffffff", dark: "#1e2129" };
  let views = new Map();
  let library;

  const isDark = () => document.body.getAttribute("data-md-color-scheme") === "slate";

  // Lines of at most so many characters
  function wrapped(text, n) {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && (lines.at(-1) + word).length >= n) lines.push("");
      lines.push((lines.pop() + " " + word).trim());
    }
    return lines;
  }

  // Legends of long names in one column, and few ticks: on a phone the rest would be cut
  function narrowed(part) {
    for (const [name, value] of Object.entries(part)) {
      if (name === "datasets" || value === null || typeof value !== "object") continue;
      if (name === "legend" && value.columns > 1) value.columns = 1;
      if (name === "axis" && value.tickCount > 4) value.tickCount = 4;
      // Names below groups of bars would touch each other
      if (name === "x" && value.type === "nominal" && value.axis) value.axis.labelFontSize = 9;
      narrowed(value);
    }
  }

  // What a chart takes at least, and how several panels share the width, its specification says;
  // a chart that is wider than its place scrolls
  function fitted(spec, element) {
    const least = spec.usermeta?.least ?? 0;
    if (least > element.clientWidth) element.style.width = `${least}px`;
    const width = element.clientWidth;
    const { subtitle } = spec.title ?? {};
    if (subtitle) spec.title.subtitle = subtitle.flatMap((line) => wrapped(line, width / 6));
    if (width < 480) {
      narrowed(spec);
      spec.config.legend.columns = 2;
    }
    if (spec.usermeta?.panels) {
      const { count, aside, each, least } = spec.usermeta.panels;
      const room = Math.floor((width - aside) / (least + each));
      spec.columns = Math.max(1, Math.min(count, spec.columns, room));
      spec.spec.width = Math.max(least, (width - aside) / spec.columns - each);
    }
    if (spec.usermeta?.stacked) {
      const { aside, least } = spec.usermeta.stacked;
      for (const part of spec.vconcat) part.width = Math.max(least, width - aside);
    }
    return spec;
  }

  // A column has its values, or each of them once and the place of that of each row
  const valueAt = ([values, places], row) =>
    places ? values[places[row]] : values.length === 1 ? values[0] : values[row];

  // The specification of a chart; its data stand in the page by columns
  function specification(name) {
    const source = document.querySelector(`script[data-chart="${name}"]`);
    const spec = JSON.parse(source.textContent);
    spec.config ??= structuredClone(window.ablationChartConfig);
    for (const [key, { n, columns }] of Object.entries(spec.datasets ?? {})) {
      const told = Object.entries(columns);
      spec.datasets[key] = Array.from({ length: n }, (_, row) =>
        Object.fromEntries(told.map(([column, stored]) => [column, valueAt(stored, row)])),
      );
    }
    return spec;
  }

  function loaded() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = LIBRARY;
      script.addEventListener("load", resolve);
      script.addEventListener("error", () => reject(new Error(`${LIBRARY} is missing`)));
      document.head.append(script);
    });
    return library;
  }

  function save(address, name) {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
  }

  async function saveSvg(view, name) {
    const address = URL.createObjectURL(new Blob([await view.toSVG()], { type: "image/svg+xml" }));
    save(address, `${name}.svg`);
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  // A picture without a ground would have pale ink on what may be white paper
  async function savePng(view, name) {
    const ground = view.background();
    await view.background(isDark() ? INK.dark : INK.light).runAsync();
    save(await view.toImageURL("png", 2), `${name}.png`);
    await view.background(ground).runAsync();
  }

  function addTools(element) {
    const tools = document.createElement("div");
    tools.className = "chart-tools";
    for (const [title, action] of Object.entries({ "Save SVG": saveSvg, "Save PNG": savePng })) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = title;
      button.addEventListener("click", () => action(views.get(element).view, element.id));
      tools.append(button);
    }
    element.after(tools);
  }

  // A chart in a closed box or in a section that is not chosen has no width yet
  const waiting = () =>
    [...document.querySelectorAll(".vega-chart")].filter((e) => !views.has(e) && e.checkVisibility());

  async function draw() {
    const mine = views;
    if (!waiting().length) return;
    await loaded();
    for (const element of waiting()) {
      if (views.has(element)) continue;
      views.set(element, null);
      const result = await window.vegaEmbed(element, fitted(specification(element.id), element), {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        theme: isDark() ? "dark" : undefined,
        tooltip: { theme: isDark() ? "dark" : "light" },
        config: { background: "transparent" },
      });
      // Another drawing began meanwhile
      if (mine !== views) {
        result.finalize();
        return;
      }
      mine.set(element, result);
      if (!element.dataset.drawn) addTools(element);
      element.dataset.drawn = isDark() ? "dark" : "light";
    }
  }

  const written = (value) =>
    typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value ?? "-");

  // The rows that a chart draws, as a table; a column without a value is left out
  function addRows(event) {
    const box = event.target;
    if (!box.dataset?.rows || !box.open || box.querySelector("table")) return;
    const [rows] = Object.values(specification(box.dataset.rows).datasets);
    const names = Object.keys(rows[0]).filter((name) => rows.some((row) => row[name] != null));
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of names) head.append(Object.assign(document.createElement("th"), { textContent: name }));
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const name of names) {
        const cell = line.insertCell();
        cell.textContent = written(row[name]);
        cell.dataset.value = row[name] ?? "";
      }
    }
    const place = document.createElement("div");
    place.className = "data-table";
    place.append(table);
    box.append(place);
    window.ablationTables.add(table);
  }

  function redraw() {
    const drawn = views;
    views = new Map();
    drawn.forEach((view) => view?.finalize());
    draw();
  }

  function start() {
    draw();
    document.addEventListener("ablation:shown", draw);
    document.addEventListener("toggle", draw, true);
    document.addEventListener("toggle", addRows, true);
    new MutationObserver(redraw).observe(document.body, {
      attributes: true,
      attributeFilter: ["data-md-color-scheme"],
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
