"""Text of a run as text wherever it goes: a function for each place that has markup of its own.

Names, reasons, versions, paths: whatever a run, a published file or a folder's name says is text. A
module that writes it into a page, a file or a terminal takes it through one of these functions.
"""

from __future__ import annotations

import contextlib
import html
import re
from typing import Any

# What Python-Markdown and the extensions of the site take for markup within a line. A letter, a
# digit, a sign between words or spaces stays as it is.
_MARKUP = re.compile(
    r"""
    [\\`*\[\]{}<>&|^$@]                     # emphasis, links, attributes, HTML, tables, formulas
    | ~(?=\S) | (?<=\S)~                    # struck out, subscripts
    | (?<![^\W_])_ | _(?![^\W_])            # emphasis; an underscore within a word is none
    | :(?=//|(?!\d\d?:)[\w+-]+:)             # addresses, :emoji:; a time of day is none
    | (?i:(?<=\bwww)\.)                     # addresses
    | (?<=\+)\+ | \+(?=[+/])                # ++keys++, +/-
    | (?<==)= | =(?=[=/])                   # ==marks==, =/=
    | -(?=->) | (?<=<-)-                    # arrows
    | (?<=\d)/(?=\d) | (?i:(?<=\bc)/(?=o\b))   # fractions, care of
    | (?i:\((?=(?:c|r|tm)\)))               # signs of copyright and trade marks
    | (?<=\d)[snrt](?=[tdh]\b)              # ordinal numbers
    """,
    re.VERBOSE,
)
# What begins a list, a heading, a box or a block at the beginning of a line
_LINE_MARKUP = re.compile(r"\A(?:[-+=\#!?:/%]|\d+[.)](?=\s|\Z))")
# A code span of these needs no escape in a table either
_PLAIN_CODE = re.compile(r"[\w./][\w ./,:+()=-]*")
# How Python keeps bytes of a path that are no text
_BYTES = "surrogateescape"
# What a spreadsheet runs as a formula
_FORMULA = ("=", "+", "-", "@")


def visible(text: object) -> str:
    r"""Write a text or path on one line with nothing in it that a reader cannot see.

    White space becomes spaces. Control characters, characters that change the direction of text,
    and halves of surrogate pairs are written as Python writes them: `\x1b`, `\u202e`, `\ud800`.
    A path is bytes, which are read as UTF-8 whatever the locale says.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    with contextlib.suppress(UnicodeError):
        shown = shown.encode("utf-8", _BYTES).decode("utf-8", _BYTES)
    return "".join(
        character if character.isprintable() else _written(character) for character in shown
    )


def _written(character: str) -> str:
    if character.isspace():
        return " "
    return character.encode("unicode_escape").decode("ascii")


def all_visible(value: Any) -> Any:
    """Write every text of nested lists and tables as `visible` does, the names of columns too."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(name): all_visible(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [all_visible(entry) for entry in value]
    return value


def html_text(text: str) -> str:
    """Write text for HTML that no Markdown is read in, between tags and in quoted attributes."""
    return html.escape(visible(text))


def escape(text: str) -> str:
    """Write text for the inside of a line of Markdown, a cell of a table, an element on a page.

    Markup becomes entities of HTML, which Markdown leaves as they are. So the text is right in HTML
    as well. A quoted attribute takes `attribute`, and an item of a list `list_item`.
    """
    shown = " ".join(visible(text).split())
    return _MARKUP.sub(_entity, shown)


def _entity(match: re.Match[str]) -> str:
    named = html.escape(match[0], quote=False)
    return named if named != match[0] else f"&#{ord(match[0])};"


def list_item(text: str) -> str:
    """Write text as an item of a list of Markdown."""
    shown = escape(text)
    begin = _LINE_MARKUP.match(shown)
    if begin is None:
        return f"- {shown}"
    return f"- {shown[: begin.end() - 1]}&#{ord(shown[begin.end() - 1])};{shown[begin.end() :]}"


def attribute(text: str) -> str:
    """Write text for a quoted attribute of HTML on a page of Markdown."""
    return escape(text).replace('"', "&quot;").replace("'", "&#39;")


def code(text: str) -> str:
    """Write text in the type of code, in a table too."""
    return f"<code>{escape(text)}</code>"


def path_code(text: str) -> str:
    """Write a path or place in the type of code, by backticks where it has nothing to escape."""
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) else code(text)


def csv_text(text: str) -> str:
    """Write text for a cell of CSV: `visible`, and no formula to a spreadsheet.

    What begins as a formula gets an apostrophe in front.
    """
    shown = visible(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
