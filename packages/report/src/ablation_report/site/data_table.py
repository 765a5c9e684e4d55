"""A table of a page: each figure as it is read, and the raw value behind it.

A reader sorts it by the raw values and copies it as CSV or Markdown (`assets/tables.js`). It is
HTML, since cells of Markdown carry no attributes; a page of Markdown takes it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ablation_report.escaping import all_visible, attribute, escape
from ablation_report.tables.layout import NOTHING

# A missing value is None, never zero
Value = float | int | str | None
# Classes of a cell, which `assets/site.css` colors
Mark = Literal["better", "worse", "same", "unresolved"]
PAGE_ENDING, HTML_ENDING = ".md", ".html"
NO_SCRIPT = "JavaScript shows this table."


@dataclass(frozen=True)
class Column:
    """A column: its title, how its values are written, and its name in CSV, with the unit.

    `text` takes a raw value that is not None, such as `layout.duration`. `tip` explains the title.
    A hidden column stands in CSV only. Text is written to the left, figures to the right. Prose may
    go on in a second line.
    """

    title: str
    text: Callable[[Any], str] = str
    name: str = ""
    is_left: bool = False
    is_hidden: bool = False
    tip: str = ""
    is_prose: bool = False


@dataclass(frozen=True)
class Cell:
    """A value with more than its text: another text, the page it links to, its mark, a tip.

    `page` is a path from the page of the table, as in Markdown: `../runs/a.md#b`.
    """

    value: Value
    text: str | None = None
    page: str | None = None
    mark: Mark | None = None
    tip: str = ""


Line = Sequence[Value | Cell]
# Lines in groups by name are sorted within each group
Lines = Iterable[Line] | Mapping[str, Iterable[Line]]


def data_table(columns: Sequence[Column], lines: Lines) -> str:
    """Lay out lines as a table of HTML that a page of Markdown takes as it is.

    Raises:
        ValueError: a line has not one value for each column.
    """
    head = "".join(_title(column) for column in columns)
    width = sum(not column.is_hidden for column in columns)
    bodies = []
    for name, group in _groups(lines):
        heading = f'<tr><th scope="rowgroup" colspan="{width}">{escape(name)}</th></tr>\n'
        rows = [f"<tr>{''.join(_cells(columns, line))}</tr>\n" for line in group]
        bodies.append(f"<tbody>\n{heading if name else ''}{''.join(rows)}</tbody>")
    body = "\n".join(bodies)
    # The search reads pages without their figures
    begin = '<div class="data-table" data-search-exclude>\n<table>'
    return f"{begin}\n<thead>\n<tr>{head}</tr>\n</thead>\n{body}\n</table>\n</div>"


def stored_table(columns: Sequence[Column], lines: Lines) -> str:
    """Lay out the same table as JSON, of which `assets/tables.js` makes a table.

    It has half as many bytes, but is not shown without scripts: it is for tables that are folded.
    A cell is its text where it has no more, else text, raw value, mark, page and tip, as far as it
    has them. Raw numbers have nine digits.

    Raises:
        ValueError: a line has not one value for each column.
    """
    told = {
        "columns": [_stored_column(column) for column in columns],
        "groups": [
            [name, [[_stored(*pair) for pair in _pairs(columns, line, True)] for line in group]]
            for name, group in _groups(lines)
        ],
    }
    return (
        '<div class="data-table" data-search-exclude>\n'
        f'<script type="application/json" data-table>{script_json(told)}</script>\n'
        f"<noscript>{NO_SCRIPT}</noscript>\n</div>"
    )


def script_json(value: Any) -> str:
    """Write JSON for a script of a page: without "<" none of it can end one."""
    text = json.dumps(all_visible(value), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")


def _stored_column(column: Column) -> dict[str, Any]:
    told: dict[str, str | bool]
    told = {"title": column.title, "name": column.name, "tip": column.tip}
    told |= {"class": _classes(column), "hidden": column.is_hidden}
    return {name: value for name, value in told.items() if value}


def _stored(column: Column, cell: Cell) -> Any:
    text = _text(column, cell)
    if cell.value is None and cell == Cell(None):
        return None
    page = _address(cell.page) if cell.page is not None else None
    told = [text, _rounded(cell.value), cell.mark, page, cell.tip or None]
    while told[-1] is None and len(told) > 2:
        told.pop()
    return text if told == [text, text] else told


def _rounded(value: Value) -> Value:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def markdown_table(columns: Sequence[Column], lines: Lines) -> str:
    """Lay out the same table as Markdown, for a text that no script reads, such as a README.

    Raises:
        ValueError: a line has not one value for each column.
    """
    shown = [column for column in columns if not column.is_hidden]
    titles = [escape(column.title) for column in shown]
    marks = ["---" if column.is_left else "---:" for column in shown]
    texts = [titles, marks]
    for name, group in _groups(lines):
        texts += [[f"**{escape(name)}**", *[""] * (len(shown) - 1)]] if name else []
        texts += [
            [_markdown(column, cell) for column, cell in _pairs(columns, line)] for line in group
        ]
    return "\n".join(f"| {' | '.join(line)} |" for line in texts)


def _groups(lines: Lines) -> Iterable[tuple[str, Iterable[Line]]]:
    return lines.items() if isinstance(lines, Mapping) else [("", lines)]


def _title(column: Column) -> str:
    name = attribute(column.name)
    tip = f' title="{attribute(column.tip)}"' if column.tip else ""
    named = f' data-name="{name}"' if column.name else ""
    return f'<th scope="col"{named}{tip}{_place(column)}>{escape(column.title)}</th>'


def _place(column: Column, mark: str | None = None) -> str:
    """The attributes of a cell that come from its column; figures are the rule in a table."""
    classes = " ".join(filter(None, (mark, _classes(column))))
    return (f' class="{classes}"' if classes else "") + (" hidden" if column.is_hidden else "")


def _classes(column: Column) -> str:
    named = ("left" if column.is_left else None, "prose" if column.is_prose else None)
    return " ".join(filter(None, named))


def _pairs(
    columns: Sequence[Column], line: Line, with_hidden: bool = False
) -> Iterable[tuple[Column, Cell]]:
    if len(line) != len(columns):
        titles = ", ".join(column.title for column in columns)
        raise ValueError(f"a line of {len(line)} values for {len(columns)} columns: {titles}")
    for column, value in zip(columns, line, strict=True):
        if with_hidden or not column.is_hidden:
            yield column, value if isinstance(value, Cell) else Cell(value)


def _text(column: Column, cell: Cell) -> str:
    if cell.text is not None:
        return cell.text
    return NOTHING if cell.value is None else column.text(cell.value)


def _cells(columns: Sequence[Column], line: Line) -> Iterable[str]:
    for column, cell in _pairs(columns, line, with_hidden=True):
        text = _text(column, cell)
        shown = escape(text)
        if cell.page is not None:
            shown = f'<a href="{attribute(_address(cell.page))}">{shown}</a>'
        tip = f' title="{attribute(cell.tip)}"' if cell.tip else ""
        yield f"<td{_place(column, cell.mark)}{_raw(cell.value, text)}{tip}>{shown}</td>"


def _raw(value: Value, text: str) -> str:
    """The attribute that carries a raw value; none where it is the text itself."""
    if value is None:
        return ' data-value=""'
    if isinstance(value, str):
        return f' data-value="{attribute(value)}"' if value != text else ""
    return f' data-value="{json.dumps(value)}"'


def _address(page: str) -> str:
    """A page of Markdown by the file that the generator of the site makes of it."""
    path, mark, anchor = page.partition("#")
    if path.endswith(PAGE_ENDING):
        path = path.removesuffix(PAGE_ENDING) + HTML_ENDING
    return f"{path}{mark}{anchor}"


def _markdown(column: Column, cell: Cell) -> str:
    shown = escape(_text(column, cell))
    return shown if cell.page is None else f"[{shown}]({cell.page})"
