"""The verdict widget: choose bits and method, and see all measures of it at once.

    verdicts(versions, original, prompt)        # the last line of a cell

Nothing is computed here: the versions are rows of a table, each a whole model that was
quantized, read and asked for minutes. One sees how much its loss rose, which answers
it lost, and how it goes on after a prompt beside how the original did. From the first
word that is another on, the two texts are two stories: these words are underlined and
on a yellow ground. Lesson 11 shows it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from minquant.course.drawing import palette
from minquant.course.live.controls import choice
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.low_bits.figure_verdict import Key, VerdictPicture, Version


def verdicts(
    versions: Sequence[Version],
    original: Version,
    prompt: str,
    *,
    start: Key = (3, "gptq"),
) -> Dashboard:
    """The widget. versions: the table, in any order. original: the model before.

    prompt: what all texts go on after. start: bits and method at first. A pair that the
    table lacks is no error: the words then say which widths the method has.

    Raises ValueError if versions is empty, holds a pair of bits and method twice or
    other levels than the original, or has no version for start.
    """
    picture = VerdictPicture(versions, original)
    table = picture.versions
    if start not in table:
        known = ", ".join(f"({bits:g}, {method!r})" for bits, method in table)
        raise ValueError(f"start is {start!r}, no version; choose one of {known}")

    def _draw(bits: float, method: str) -> Frame:
        picture.update((bits, method))
        return Frame(
            picture.fig,
            f'<p style="margin:0 0 6px">{html.escape(picture.fig.alt)}</p>',
            _texts(prompt, original, table.get((bits, method))),
        )

    widths = sorted({bits for bits, _ in table}, reverse=True)
    methods = list(dict.fromkeys(method for _, method in table))
    return Dashboard(
        _draw,
        {
            "bits": choice("bits", start[0], {f"{bits:g}": bits for bits in widths}),
            "method": choice("method", start[1], methods),
        },
    )


def departure(before: str, after: str) -> int:
    """How many words two texts have in common, from the first on.

    >>> departure("the goat sleeps here", "the goat eats here")
    2
    """
    old, new = before.split(), after.split()
    pairs = enumerate(zip(old, new, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(old), len(new)))


def _texts(prompt: str, original: Version, now: Version | None) -> str:
    """What the original wrote, and beside it what the chosen version did."""
    prompt = re.sub(r" ([.,?:])", r"\1", prompt)  # as one writes it
    columns = [_column("the original went on", prompt, html.escape(original.text))]
    if now is not None:
        words = now.text.split()
        alike = departure(original.text, now.text)
        said = [html.escape(" ".join(some)) for some in (words[:alike], words[alike:])]
        look = f"background:{palette.HIGHLIGHT};color:{palette.INK};"
        look += f"border-bottom:2px solid {palette.VERMILION}"
        marked = f'<mark style="{look}">{said[1]}</mark>' if said[1] else ""
        title = f"{now.bits:g} bits by {now.method}: {_news(original.text, now.text)}"
        columns.append(_column(title, prompt, f"{said[0]} {marked}".strip()))
    return (
        f'<div style="background:{palette.PAPER};color:{palette.INK};padding:10px 14px;'
        f"border:1px solid {palette.HAIRLINE};max-width:872px;line-height:1.6;"
        f'display:flex;flex-wrap:wrap;gap:10px 28px">{"".join(columns)}</div>'
    )


def _news(before: str, after: str) -> str:
    """Where a text departs from another, in words."""
    alike, length = departure(before, after), len(after.split())
    if before.split() == after.split():
        return "the same words"
    if alike == length:
        return f"the same {length} words, then nothing"
    return f"another word from word {alike + 1} on"


def _column(title: str, prompt: str, text: str) -> str:
    """A title, the prompt in grey, and the text that came after it."""
    return (
        f'<div style="flex:1 1 320px"><b>{html.escape(title)}</b><br>'
        f'<span style="color:{palette.MUTED}">{html.escape(prompt)}</span> {text}</div>'
    )
