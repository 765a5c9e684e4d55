// Draws every chart of the page, and draws them again when the page turns dark or light.
(() => {
  let views = [];

  const isDark = () => document.body.getAttribute("data-md-color-scheme") === "slate";

  async function draw() {
    const mine = (views = []);
    for (const element of document.querySelectorAll(".vega-chart")) {
      const source = document.querySelector(`script[data-chart="${element.id}"]`);
      const result = await window.vegaEmbed(element, JSON.parse(source.textContent), {
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
