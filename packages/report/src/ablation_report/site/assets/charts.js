// Draws every chart of the page, and draws them again when the page turns dark or light.
(() => {
  let views = [];

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

  async function draw() {
    const mine = (views = []);
    for (const element of document.querySelectorAll(".vega-chart")) {
      const source = document.querySelector(`script[data-chart="${element.id}"]`);
      const result = await window.vegaEmbed(element, fitted(JSON.parse(source.textContent), element), {
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
      mine.push(result);
      element.dataset.drawn = isDark() ? "dark" : "light";
    }
  }

  function redraw() {
    const drawn = views;
    views = [];
    drawn.forEach((view) => view.finalize());
    draw();
  }

  function start() {
    draw();
    new MutationObserver(redraw).observe(document.body, {
      attributes: true,
      attributeFilter: ["data-md-color-scheme"],
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
