// Makes the tables of a page sortable by their raw values, and copies them as CSV and as Markdown.
// A cell carries its raw value in data-value; of a cell without it, as in a table of Markdown, the
// text is the value.
(() => {
  const UNITS = { ns: 1, "µs": 1e3, ms: 1e6, s: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
  const FIGURE = /^[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?/i;
  const NUMBER = /^-?\d+(?:\.\d+)?(?:e[-+]?\d+)?$/i;
  // What a spreadsheet runs as a formula
  const FORMULA = /^\s*[=+\-@]/;

  // innerText is empty in a closed box
  const shown = (cell) => cell.textContent.trim().replace(/\s+/g, " ");

  // The text of a cell as a figure with its unit (12.3 µs, 0.85x ~, 1,024, 95%), NaN without one
  function figure(text) {
    const found = text.match(FIGURE);
    if (!found) return NaN;
    const unit = text.slice(found[0].length).trim().split(" ")[0];
    return Number(found[0].replaceAll(",", "")) * (UNITS[unit] ?? 1);
  }

  // What a cell is sorted by: a number, a text, or null where nothing is known
  function key(cell) {
    const raw = cell.dataset.value;
    if (raw === "") return null;
    if (raw !== undefined) return NUMBER.test(raw) ? Number(raw) : raw;
    const text = shown(cell);
    if (text === "" || text === "-") return null;
    return Number.isNaN(figure(text)) ? text : figure(text);
  }

  function order(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  const titlesOf = (table) => [...table.tHead.rows[0].cells];
  // The rows of a body that have a cell for each title; a heading of a group has one cell
  const linesOf = (body, width) => [...body.rows].filter((row) => row.cells.length === width);

  function sortBy(table, index, direction) {
    const width = titlesOf(table).length;
    for (const body of table.tBodies) {
      const keyed = linesOf(body, width).map((row) => [key(row.cells[index]), row]);
      keyed.sort(([a, first], [b, second]) => {
        if (direction === 0) return first.dataset.place - second.dataset.place;
        if (a === null || b === null) return (a === null) - (b === null);
        return direction * order(a, b);
      });
      body.append(...keyed.map(([, row]) => row));
    }
  }

  const DIRECTIONS = { none: "ascending", ascending: "descending", descending: "none" };
  const SIGNS = { none: 0, ascending: 1, descending: -1 };

  const rawText = (cell) => cell.dataset.value ?? shown(cell);

  function addSorting(table) {
    const titles = titlesOf(table);
    for (const body of table.tBodies)
      linesOf(body, titles.length).forEach((row, place) => (row.dataset.place = place));
    titles.forEach((title, index) => {
      if (title.hidden || !shown(title)) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...title.childNodes);
      title.append(button);
      title.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const next = DIRECTIONS[title.getAttribute("aria-sort")];
        for (const other of titles) if (!other.hidden) other.setAttribute("aria-sort", "none");
        title.setAttribute("aria-sort", next);
        sortBy(table, index, SIGNS[next]);
      });
    });
  }

  // The lines of a table in their order on the page: the name of the group, then the cells
  function lines(table) {
    const width = titlesOf(table).length;
    let group = "";
    return [...table.tBodies].flatMap((body) =>
      [...body.rows].flatMap((row) => {
        if (row.cells.length === width) return [[group, [...row.cells]]];
        group = shown(row);
        return [];
      }),
    );
  }

  function csvCell(text) {
    const safe = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function csv(table) {
    const titles = titlesOf(table).map((title) => csvCell(title.dataset.name ?? shown(title)));
    const found = lines(table);
    const isGrouped = found.some(([group]) => group);
    const rows = found.map(([group, cells]) => [
      ...(isGrouped ? [csvCell(group)] : []),
      ...cells.map((cell) => csvCell(rawText(cell))),
    ]);
    const head = [...(isGrouped ? ["group"] : []), ...titles];
    return [head, ...rows].map((row) => row.join(",") + "\n").join("");
  }

  function markdown(table) {
    const titles = titlesOf(table).filter((title) => !title.hidden);
    const found = lines(table);
    const isGrouped = found.some(([group]) => group);
    const plain = (text) => text.replaceAll("\\", "\\\\").replaceAll("|", "\\|");
    const row = (texts) => `| ${texts.map(plain).join(" | ")} |\n`;
    const isRight = (title) => getComputedStyle(title).textAlign === "right";
    const marks = titles.map((title) => (isRight(title) ? "---:" : "---"));
    const rows = found.map(([group, cells]) =>
      row([...(isGrouped ? [group] : []), ...cells.filter((cell) => !cell.hidden).map(shown)]),
    );
    const head = [...(isGrouped ? ["Group"] : []), ...titles.map(shown)];
    return row(head) + `| ${[...(isGrouped ? ["---"] : []), ...marks].join(" | ")} |\n` + rows.join("");
  }

  async function copy(text) {
    if (navigator.clipboard) {
      try {
        return await navigator.clipboard.writeText(text);
      } catch {
        // Not allowed from here: the older way may be
      }
    }
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("the browser does not copy");
  }

  function save(text, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function button(title, action) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = title;
    made.addEventListener("click", async () => {
      try {
        await action();
        made.textContent = "Done";
      } catch {
        made.textContent = "Not allowed by the browser";
      }
      setTimeout(() => (made.textContent = title), 1500);
    });
    return made;
  }

  function addTools(table, number) {
    const page = location.pathname.split("/").at(-1).replace(/\.html$/, "") || "table";
    const tools = document.createElement("div");
    tools.className = "table-tools";
    tools.append(
      button("Copy CSV", () => copy(csv(table))),
      button("Copy Markdown", () => copy(markdown(table))),
      button("Save CSV", () => save(csv(table), `${page}-${number}.csv`)),
    );
    const box = table.closest(".md-typeset__scrollwrap, .data-table") ?? table;
    box.after(tools);
  }

  function element(tag, content, attributes) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (value) made.setAttribute(name, value === true ? "" : value);
    made.append(content);
    return made;
  }

  // A cell is its text, or text, raw value, mark, page and tip; null where nothing is known
  function storedCell(stored, { class: place, hidden }) {
    const [text, value, mark, page, tip] =
      stored === null ? ["-", null] : typeof stored === "string" ? [stored, stored] : stored;
    const content = page ? element("a", text, { href: page }) : text;
    const classes = [mark, place].filter(Boolean).join(" ");
    const made = element("td", content, { class: classes, hidden, title: tip });
    if (value !== text) made.dataset.value = value ?? "";
    return made;
  }

  // The table of what `stored_table` writes: columns, and lines in groups by name
  function built({ columns, groups }) {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const { title, name, tip, hidden, class: place } of columns) {
      const told = { scope: "col", "data-name": name, title: tip, hidden, class: place };
      head.append(element("th", title ?? "", told));
    }
    const colspan = columns.filter((column) => !column.hidden).length;
    for (const [name, lines] of groups) {
      const body = table.createTBody();
      if (name) body.insertRow().append(element("th", name, { scope: "rowgroup", colspan }));
      for (const line of lines)
        body.insertRow().append(...line.map((stored, i) => storedCell(stored, columns[i])));
    }
    return table;
  }

  // The box of the theme, which makes one for each table that it finds when the page is loaded
  function boxed(table) {
    const inner = element("div", table, { class: "md-typeset__table" });
    return element("div", inner, { class: "md-typeset__scrollwrap" });
  }

  // Where a wide window is too narrow for a table, its cells may break; a narrow one scrolls it
  function fit() {
    for (const table of document.querySelectorAll(".md-content table:not([data-tight])")) {
      const box = table.closest(".md-typeset__scrollwrap, .data-table");
      if (box && box.clientWidth > 600 && table.scrollWidth > box.clientWidth + 1)
        table.dataset.tight = "";
    }
  }

  let count = 0;

  function add(table) {
    addSorting(table);
    addTools(table, ++count);
  }

  function start() {
    for (const stored of document.querySelectorAll("script[data-table]"))
      stored.replaceWith(boxed(built(JSON.parse(stored.textContent))));
    const tables = [...document.querySelectorAll(".md-content table")].filter((table) => {
      // Neither code with its line numbers nor the reference of a function
      const isOther = table.closest(".highlight, .doc");
      return table.tHead?.rows.length && table.querySelectorAll("tbody tr").length > 1 && !isOther;
    });
    tables.forEach(add);
    fit();
    // The script of the theme puts tables into boxes too
    window.addEventListener("load", fit);
    document.addEventListener("ablation:shown", fit);
    document.addEventListener("toggle", fit, true);
  }

  // For tables that another script makes
  function addLater(table) {
    table.parentElement.append(boxed(table));
    add(table);
    fit();
  }

  window.ablationTables = { add: addLater, built, csv, markdown };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
