"""Pieces of a page that needs nothing but itself: text, tables, and pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nbconv.terminal import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 62rem;
  margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #d5dae0; padding-bottom: .2rem; }
p { margin: .4rem 0; }
img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e6e9ed; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
nav a { margin-right: 1rem; }
pre { overflow-x: auto; font-size: .8rem; }
.big { font-size: 1.15rem; }
"""
# Should something from outside ever get in, browsers will not fetch it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, introduction: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole document. The title and headings are text; introduction and sections are HTML."""
    title = visible(title)
    links = "".join(f'<a href="#{_anchor(heading)}">{escape(heading)}</a>' for heading, _ in sections)
    body = "\n".join(
        f'<section id="{_anchor(heading)}">\n<h2>{escape(heading)}</h2>\n{content}\n</section>'
        for heading, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{introduction}\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Text as a paragraph."""
    text = escape(visible(text))
    return f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>"


def preformatted(text: str) -> str:
    """Text whose lines and columns stay."""
    return f"<pre>{escape(text)}</pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Text in rows and columns; the first column to the left, the others to the right."""
    lines = ["".join(f"<td>{escape(visible(str(cell)))}</td>" for cell in row) for row in rows]
    return (
        '<div class="scroll"><table>\n<thead><tr>'
        + "".join(f"<th>{escape(cell)}</th>" for cell in head)
        + "</tr></thead>\n<tbody>\n"
        + "\n".join(f"<tr>{line}</tr>" for line in lines)
        + "\n</tbody></table></div>"
    )


def picture(figure: Figure, description: str) -> str:
    """A figure as part of the page, and words for those who cannot see it."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=_DPI)
    width, height = (round(_DPI * side) for side in figure.get_size_inches())
    encoded = base64.b64encode(memory.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" '
        f'alt="{escape(visible(description), quote=True)}">'
    )


def _anchor(heading: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in heading.lower())
