"""HTML that several widgets write: a paragraph, a text, a table of steps.

All take HTML, so what a reader or a model has written must be escaped before.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from minquant.course.drawing import palette


def paragraph(content: str, *, space: int = 6) -> str:
    """A paragraph with some CSS pixels of space below it."""
    margin = f"0 0 {space}px" if space else "0"
    return f'<p style="margin:{margin}">{content}</p>'


def marked(content: str) -> str:
    """A part of a text that has changed: underlined, and on a yellow ground."""
    look = f"background:{palette.HIGHLIGHT};color:{palette.INK};"
    look += f"border-bottom:2px solid {palette.VERMILION}"
    return f'<mark style="{look}">{content}</mark>'


def text_column(title: str, prompt: str, content: str) -> str:
    """A title, a prompt in grey, and the text that came after it.

    Title and prompt are plain text, and escaped here.
    """
    return (
        f'<div style="flex:1 1 320px"><b>{html.escape(title)}</b><br>'
        f'<span style="color:{palette.MUTED}">{html.escape(prompt)}</span> '
        f"{content}</div>"
    )


def without_gaps(text: str) -> str:
    """A text of the almanac as one writes it, without spaces before . , ? and :.

    >>> without_gaps("Who is Nira Tolvish ?")
    'Who is Nira Tolvish?'
    """
    return re.sub(r" ([.,?:])", r"\1", text)


def steps_table(steps: Sequence[tuple[str, str]], *, gap: int) -> str:
    """A calculation as a table: what is done above what comes out.

    gap: between two steps, in CSS pixels.
    """
    cell = f"padding:2px {gap}px 2px 0;text-align:left;font-weight"
    done = "".join(f'<th scope="col" style="{cell}:normal">{d}</th>' for d, _ in steps)
    gives = "".join(f'<td style="{cell}:bold">{result}</td>' for _, result in steps)
    return f'<table style="margin:0"><tr>{done}</tr><tr>{gives}</tr></table>'
