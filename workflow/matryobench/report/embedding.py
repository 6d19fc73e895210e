"""Files as parts of the page: pictures as data URIs, markdown tables as HTML."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matryobench.errors import InputError

PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
PNG_DPI = 200  # of figures.theme
SCREEN_DPI = 128  # a third more than CSS inches: the figures' text is made for paper

_SVG_SIZE = re.compile(rb'<svg[^>]*?\bwidth="([\d.]+)pt"[^>]*?\bheight="([\d.]+)pt"')
_PNG_SIZE = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})", re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI, with the size in CSS pixels at which its text reads well."""

    uri: str
    width: int
    height: int


def picture(stem: Path) -> Picture | None:
    """The figure at `stem`, of its .svg and .png the smaller file; None where neither is there.

    Raises InputError for a file that is no picture of its kind.
    """
    found = [path for ending in PICTURES if (path := stem.with_name(stem.name + ending)).is_file()]
    if not found:
        return None
    path = min(found, key=lambda one: one.stat().st_size)
    data = path.read_bytes()
    size = _SVG_SIZE.search(data[:4000]) if path.suffix == ".svg" else _PNG_SIZE.match(data)
    if size is None:
        raise InputError(f"{path} is no {path.suffix[1:]} picture that says how large it is; draw the figure again.")
    if path.suffix == ".svg":
        inches = [float(points) / 72 for points in size.groups()]
    else:
        inches = [int.from_bytes(pixels) / PNG_DPI for pixels in size.groups()]
    width, height = (round(one * SCREEN_DPI) for one in inches)
    uri = f"data:{PICTURES[path.suffix]};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(uri, width, height)


def markdown(text: str, label: str) -> str:
    """Markdown as HTML: tables that scroll by themselves and can be sorted, raw HTML as text, links as their text.

    `label` names the tables for those who cannot see them.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    nothing = lambda *_: ""  # noqa: E731 - three rules that print nothing
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label, quote=True)}">'
    rules: dict[str, Any] = {
        "table_open": lambda *_: f'{region}<table class="sortable">\n',
        "table_close": lambda *_: "</table></div>\n",
        "th_open": _cell,
        "td_open": _cell,
        "link_open": nothing,  # where a link leads is not part of the page
        "link_close": nothing,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return str(parser.render(text))


def as_json(value: Any) -> str:
    """JSON that can stand in a script element, whatever strings it holds; NaN is refused (ValueError)."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _cell(_: Any, tokens: Sequence[Any], at: int, *__: Any) -> str:
    """A heading or cell; columns of numbers by a class, as the page allows no style of its own to an element."""
    tag = tokens[at].tag
    scope = ' scope="col"' if tag == "th" else ""
    number = ' class="number"' if "right" in (tokens[at].attrGet("style") or "") else ""
    return f"<{tag}{scope}{number}>"
