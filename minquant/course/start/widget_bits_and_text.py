"""The first widget: one slider, 16 to 2 bits, and what becomes of a language model.

    bits_and_text(model, tokenizer, prompt, questions)     # the last line of a cell

The reader moves the width. The whole model is rounded to nearest at that width. One
sees its size, its loss, how it now continues a prompt beside how it did in 16 bits, and
whether it still answers. Words that changed are bold, underlined and on a yellow
ground. Each width is computed when it is first asked for (`Shrinker`), and remembered.
Notebook 00 opens with it.
"""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache, partial
from typing import Any

from torch import nn

from minquant.almanac.questions import Probe
from minquant.course.drawing import palette
from minquant.course.drawing.numbers import number
from minquant.course.live.controls import integer
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import (
    marked,
    paragraph,
    text_column,
    without_gaps,
)
from minquant.course.start.figure_shrinking import WIDTHS, ShrinkingPicture, Shrunk
from minquant.measure.evaluate import accuracy, perplexity
from minquant.methods import rtn
from minquant.models.linear_layers import Size, linear_layers, size
from minquant.models.quantize import quantize
from minquant.models.text import HasText, generate
from minquant.numerics import grids

Question = Probe | tuple[str, str]  # of the almanac, or a prompt and its answer
Questions = Mapping[str, Question]
TAIL = 70  # characters of a prompt that are shown, its last ones
GRIDS = {
    "absmax": grids.absmax,
    "symmetric, full": grids.symmetric_full,
    "zero-point": grids.zero_point,
}


class Shrinker:
    """The model at any width: called with bits, it gives a `Shrunk`, and remembers it.

    documents: a few test documents to measure the loss on. questions: name to a prompt
    and the words that answer it, or to a probe of the almanac. grid: which of GRIDS.
    new: how many tokens to write. 16 bits are fp16 itself; below, every matrix is
    rounded, with a scale for each channel.

    Raises ValueError if grid is not one of GRIDS.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        documents: Sequence[str | HasText],
        *,
        prompt: str,
        questions: Questions | None = None,
        grid: str = "absmax",
        new: int = 40,
    ) -> None:
        if grid not in GRIDS:
            raise ValueError(f"grid is {grid!r}; choose from {', '.join(GRIDS)}")
        self.model, self.tokenizer, self.documents = model, tokenizer, list(documents)
        self.prompt, self.questions = prompt, dict(questions or {})
        self.grid, self.new = GRIDS[grid], new
        self._tried: dict[int, Shrunk] = {}

    def __call__(self, bits: int) -> Shrunk:
        """The model at this width."""
        if bits not in self._tried:
            self._tried[bits] = self._measure(bits, *self._shrink(bits))
        return self._tried[bits]

    def _shrink(self, bits: int) -> tuple[nn.Module, Size]:
        """A copy of the model at this width, and its bytes."""
        if bits < 16:
            method = partial(rtn.quantize_rtn, grid=self.grid(bits))
            twin, report = quantize(self.model, method, progress=False)
            return twin, size(twin, report)
        dtype = next(self.model.parameters()).dtype
        twin = copy.deepcopy(self.model).half().to(dtype)
        layers = linear_layers(twin)
        weights = sum(layer.weight.numel() for layer in layers.values())
        everything = size(twin).total
        return twin, Size(2 * weights, everything - 2 * weights, len(layers), weights)

    def _measure(self, bits: int, twin: nn.Module, twin_size: Size) -> Shrunk:
        loss = perplexity(twin, self.tokenizer, self.documents, progress=False)
        text = generate(twin, self.tokenizer, self.prompt, self.new)
        asked = [self._ask(twin, question) for question in self.questions.values()]
        answers = tuple(answer for answer, _ in asked)
        right = tuple(ok for _, ok in asked)
        return Shrunk(bits, twin_size, loss.nats, text, answers, right)

    def _ask(self, twin: nn.Module, question: Question) -> tuple[str, bool]:
        """What a model answers to a question, and whether that is right."""
        if isinstance(question, Probe):
            found = accuracy(twin, self.tokenizer, [question], progress=False)
            return found.answers[0], bool(found.correct[0])
        prompt, answer = question
        wanted = _words(answer)
        # A full stop is a token too, and a word may be several.
        tokens = 2 * len(wanted) + 3
        words = _words(generate(twin, self.tokenizer, prompt, tokens))[: len(wanted)]
        return " ".join(words), words == wanted


def bits_and_text(
    shrink: Callable[[int], Shrunk],
    *,
    prompt: str,
    questions: Questions | None = None,
    start: int = 16,
) -> Dashboard:
    """The widget. shrink: a `Shrinker`, or any function of the width that gives a
    `Shrunk`. prompt, questions: what it was made with. start: the first width.
    """
    questions = dict(questions or {})
    whole = shrink(16)
    tried = {16: whole}
    picture = ShrinkingPicture(whole, list(questions))
    panel = lru_cache(maxsize=32)(partial(_panel, whole, prompt, questions))

    def _draw(bits: int) -> Frame:
        tried[bits] = shrink(bits)
        picture.update(tried[bits], tried)
        return Frame(picture.fig, _summary(whole, tried[bits]), panel(tried[bits]))

    low, high = WIDTHS[0], WIDTHS[-1]
    return Dashboard(_draw, {"bits": integer("bits", start, low, high, lazy=True)})


def changed(before: str, after: str) -> list[tuple[str, bool]]:
    """The words of `after`, each with whether it differs from `before`.

    >>> changed("the goat sleeps here", "the hen sleeps")
    [('the', False), ('hen', True), ('sleeps', False)]
    """
    old, new = before.split(), after.split()
    same = set()
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        same.update(range(block.b, block.b + block.size))
    return [(word, i not in same) for i, word in enumerate(new)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _summary(whole: Shrunk, now: Shrunk) -> str:
    """One sentence for the ear: size, loss, words."""
    words = changed(whole.text, now.text)
    places = [i + 1 for i, (_, new) in enumerate(words) if new]
    if places:
        text = f"{len(places)} of {len(words)} words changed, the first is word "
        text += f"{places[0]}"
    elif whole.text != now.text:
        text = f"the text ends after {len(words)} words"
    else:
        text = "the text is the same"
    cost = number(now.nats - whole.nats, digits=3, sign=True)
    right = f", {sum(now.right)} of {len(now.right)} answers right" if now.right else ""
    return paragraph(
        f"<b>{now.bits} bits</b>: {now.size.total / whole.size.total:.0%} of the size, "
        f"loss {cost} nats per token, {text}{right}."
    )


def _panel(whole: Shrunk, prompt: str, questions: Questions, now: Shrunk) -> str:
    """Both texts side by side, and the questions with what was answered."""
    after = " ".join(
        marked(f"<b>{html.escape(word)}</b>") if new else html.escape(word)
        for word, new in changed(whole.text, now.text)
    )
    texts = text_column("in 16 bits", prompt, html.escape(whole.text))
    texts += text_column(f"in {now.bits} bits", prompt, after)
    rows = "".join(
        _row(name, *_read(question), answer, right)
        for (name, question), answer, right in zip(
            questions.items(), now.answers, now.right, strict=True
        )
    )
    look = "margin:10px 0 0;font:inherit;color:inherit"
    table = f'<table style="{look}">{rows}</table>' if rows else ""
    return (
        f'<div style="background:{palette.PAPER};color:{palette.INK};padding:10px 14px;'
        f'border:1px solid {palette.HAIRLINE};max-width:872px;line-height:1.5">'
        f'<div style="display:flex;flex-wrap:wrap;gap:10px 28px">{texts}</div>{table}'
        "</div>"
    )


def _read(question: Question) -> tuple[str, str]:
    """The end of a question's prompt, without gaps, and its answer."""
    if isinstance(question, Probe):
        question = question.prompt, " ".join(question.answer)
    prompt = without_gaps(question[0])
    if len(prompt) > TAIL:
        prompt = "… " + prompt[-TAIL:].split(" ", 1)[-1]
    return prompt, question[1]


def _row(name: str, prompt: str, wanted: str, answer: str, right: bool) -> str:
    """One question: its name, its prompt, what was answered."""
    color, sign = (palette.GREEN, "✓") if right else (palette.VERMILION, "✗")
    correction = "" if right else f" (right: {html.escape(wanted)})"
    verdict = f"<b>{sign} {html.escape(answer)}</b>{correction}"
    cell = "padding:2px 14px 2px 0;text-align:left"
    return (
        f'<tr><th scope="row" style="{cell}">{html.escape(name)}</th>'
        f'<td style="{cell};color:{palette.MUTED}">{html.escape(prompt)}</td>'
        f'<td style="{cell};color:{color}">{verdict}</td>'
        "</tr>"
    )
