// Shows one of the alternatives of a page: <section data-machine="..." data-size="...">. Buttons
// choose the machine and the size, the address names both (?machine=...&size=...), and a link to
// another page takes the machine along.
(() => {
  const KEYS = ["machine", "size"];
  const NAMES = { machine: "Machine", size: "Size" };
  let sections = [];

  const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const inAddress = () => new URLSearchParams(location.search);
  // A section inside one of a machine is of that machine
  const valueOf = (section, key) => section.closest(`[data-${key}]`)?.dataset[key];

  // The values that sections of these others have, in the order of the page
  function valuesOf(key, others) {
    const fitting = sections.filter((section) =>
      Object.entries(others).every(([k, v]) => [undefined, v].includes(valueOf(section, k))),
    );
    return [...new Set(fitting.map((section) => valueOf(section, key)))].filter(Boolean);
  }

  // What the address names, and where it names nothing that is there, the first
  function chosen() {
    const found = {};
    for (const key of KEYS) {
      const values = valuesOf(key, found);
      const named = slug(inAddress().get(key) ?? "");
      const value = values.find((each) => slug(each) === named) ?? values[0];
      if (value !== undefined) found[key] = value;
    }
    return found;
  }

  function write(changes) {
    const address = new URL(location.href);
    for (const [key, value] of Object.entries(changes))
      address.searchParams.set(key, slug(value));
    history.replaceState(history.state, "", address);
  }

  function buttons(key, values, current) {
    const group = document.createElement("div");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", NAMES[key]);
    for (const value of values) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = value;
      button.setAttribute("aria-pressed", String(value === current));
      button.addEventListener("click", () => {
        write({ ...chosen(), [key]: value });
        show();
        document.querySelector(`.choices [aria-label="${NAMES[key]}"] [aria-pressed="true"]`)?.focus();
      });
      group.append(button);
    }
    return group;
  }

  function show() {
    const now = chosen();
    for (const section of sections)
      section.hidden = KEYS.some((key) => section.dataset[key] && section.dataset[key] !== now[key]);
    const place = document.querySelector(".choices");
    const before = Object.fromEntries(KEYS.map((key, i) => [key, i ? { machine: now.machine } : {}]));
    const groups = KEYS.map((key) => [key, valuesOf(key, before[key])]);
    place.replaceChildren(
      ...groups
        .filter(([, values]) => values.length > 1)
        .map(([key, values]) => buttons(key, values, now[key])),
    );
    // Charts have no width while they are hidden
    document.dispatchEvent(new Event("ablation:shown"));
  }

  // A link into a section that is not shown chooses it
  function showTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target?.closest("section[hidden]")) return;
    const own = KEYS.map((key) => [key, valueOf(target, key)]).filter(([, value]) => value);
    write(Object.fromEntries(own));
    show();
    target.scrollIntoView();
  }

  function takeAlong(event) {
    const link = event.target.closest?.("a[href]");
    const machine = inAddress().get("machine");
    if (!link || !machine || link.protocol !== location.protocol || link.host !== location.host)
      return;
    const address = new URL(link.href);
    if (!address.pathname.endsWith(".html") || address.searchParams.has("machine")) return;
    if (address.pathname === location.pathname) return;
    address.searchParams.set("machine", machine);
    link.href = address.href;
  }

  function start() {
    document.addEventListener("click", takeAlong, true);
    sections = [...document.querySelectorAll("section[data-machine], section[data-size]")];
    if (!sections.length) return;
    if (!document.querySelector(".choices")) {
      const place = document.createElement("div");
      place.className = "choices";
      sections[0].before(place);
    }
    show();
    showTarget();
    window.addEventListener("hashchange", showTarget);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
