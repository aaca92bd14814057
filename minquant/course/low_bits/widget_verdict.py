"""The verdict widget: choose bits and method, and see all that was measured.

    verdicts(versions, original, prompt)        # the last line of a cell

Nothing is computed here: the versions are rows of a table, and it took minutes to
quantize and measure each of them. One sees how much the loss rose, which answers were
lost, and how the version continues a prompt beside how the original did. Where the two
texts part, all further words are underlined and on a yellow ground. Lesson 11 shows it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from minquant.course.drawing import palette
from minquant.course.live.controls import choice
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import (
    marked,
    paragraph,
    text_column,
    without_gaps,
)
from minquant.course.low_bits.figure_verdict import Key, VerdictPicture, Version


def verdicts(
    versions: Sequence[Version],
    original: Version,
    prompt: str,
    *,
    start: Key = (3, "gptq"),
) -> Dashboard:
    """The widget. versions: the table, in any order. original: the model before.

    prompt: what all texts continue. start: bits and method at first. The reader may
    choose a pair that the table lacks; the words then name the widths of the method.

    Raises ValueError as `by_key` does, and if the table has no version for start.
    """
    picture = VerdictPicture(versions, original)
    table = picture.versions
    if start not in table:
        known = ", ".join(f"({bits:g}, {method!r})" for bits, method in table)
        raise ValueError(f"start is {start!r}, no version; choose one of {known}")

    def _draw(bits: float, method: str) -> Frame:
        picture.update((bits, method))
        words = paragraph(html.escape(picture.fig.alt))
        texts = _texts(prompt, original, table.get((bits, method)))
        return Frame(picture.fig, words, texts)

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
    """How many words two texts share from the start, before they part.

    >>> departure("the goat sleeps here", "the goat eats here")
    2
    """
    old, new = before.split(), after.split()
    for i, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            return i
    return min(len(old), len(new))


def _texts(prompt: str, original: Version, now: Version | None) -> str:
    """What the original wrote, and beside it what the chosen version did."""
    prompt = without_gaps(prompt)
    before = html.escape(original.text)
    columns = [text_column("the original went on", prompt, before)]
    if now is not None:
        words = now.text.split()
        alike = departure(original.text, now.text)
        after = html.escape(" ".join(words[:alike]))
        if changed := html.escape(" ".join(words[alike:])):
            after = f"{after} {marked(changed)}".strip()
        title = f"{now.bits:g} bits by {now.method}: "
        title += _comparison(original.text, now.text)
        columns.append(text_column(title, prompt, after))
    return (
        f'<div style="background:{palette.PAPER};color:{palette.INK};padding:10px 14px;'
        f"border:1px solid {palette.HAIRLINE};max-width:872px;line-height:1.6;"
        f'display:flex;flex-wrap:wrap;gap:10px 28px">{"".join(columns)}</div>'
    )


def _comparison(before: str, after: str) -> str:
    """Where a text departs from another, in words."""
    alike, length = departure(before, after), len(after.split())
    if before.split() == after.split():
        return "the same words"
    if alike == length:
        return f"the same {length} words, then nothing"
    return f"another word from word {alike + 1} on"
