"""The tables of a generated page, read back from its HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

# Classes that say where a text stands
PLACES = ("left", "prose")


@dataclass
class PageTable:
    """Titles, and the texts, raw values and classes of the cells of each line."""

    titles: list[str] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    raw: list[list[str | None]] = field(default_factory=list)
    marks: list[list[str]] = field(default_factory=list)

    def column(self, title: str) -> dict[str, str]:
        """The texts of a column by the first cell of each line."""
        index = self.titles.index(title)
        return {line[0]: line[index] for line in self.lines if len(line) > index}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[PageTable] = []
        self.texts: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "table":
            self.tables.append(PageTable())
        elif tag in ("th", "td") and self.tables:
            self.texts = []
            if tag == "td":
                table = self.tables[-1]
                table.raw[-1].append(values.get("data-value"))
                classes = (values.get("class") or "").split()
                table.marks[-1].append(" ".join(c for c in classes if c not in PLACES))
        elif tag == "tr" and self.tables:
            table = self.tables[-1]
            for lines in (table.lines, table.raw, table.marks):
                lines.append([])

    def handle_data(self, data: str) -> None:
        if self.texts is not None:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("th", "td") or self.texts is None:
            return
        table, text = self.tables[-1], "".join(self.texts)
        self.texts = None
        if tag == "th":
            table.titles.append(text)
        else:
            table.lines[-1].append(text)


def page_tables(text: str) -> list[PageTable]:
    """The tables of a page in their order; lines without cells are left out."""
    reader = _Reader()
    reader.feed(text)
    for table in reader.tables:
        kept = [i for i, line in enumerate(table.lines) if line]
        table.lines = [table.lines[i] for i in kept]
        table.raw = [table.raw[i] for i in kept]
        table.marks = [table.marks[i] for i in kept]
    return reader.tables


def lines_of(text: str, index: int = 0) -> dict[str, list[str]]:
    """The lines of one table of a page by their first cell."""
    return {line[0]: line for line in page_tables(text)[index].lines}
