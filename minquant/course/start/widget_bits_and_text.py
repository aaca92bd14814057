"""The first widget: one slider, 16 to 2 bits, and what becomes of a language model.

    bits_and_text(model, tokenizer, prompt, questions)     # the last line of a cell

The reader moves the width. The whole model is rounded to nearest at that width, and one
sees what it weighs, what its loss pays, how it now goes on after a prompt beside how it
did in 16 bits, and whether it still answers. Words that changed are bold, underlined
and on a yellow ground. Each width is computed when it is first asked for (`Shrinker`),
and remembered. Notebook 00 opens with it.
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
from minquant.course.drawing.ruling import number
from minquant.course.live.controls import integer
from minquant.course.live.dashboard import Dashboard, Frame
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
    rounded, per channel.
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

    def _measure(self, bits: int, twin: nn.Module, weighs: Size) -> Shrunk:
        loss = perplexity(twin, self.tokenizer, self.documents, progress=False)
        said = generate(twin, self.tokenizer, self.prompt, self.new)
        asked = [self._ask(twin, question) for question in self.questions.values()]
        answers, right = zip(*asked, strict=True) if asked else ((), ())
        return Shrunk(bits, weighs, loss.nats, said, answers, right)

    def _ask(self, twin: nn.Module, question: Question) -> tuple[str, bool]:
        """What a model answers to a question, and whether that is right."""
        if isinstance(question, Probe):
            found = accuracy(twin, self.tokenizer, [question], progress=False)
            return found.answers[0], bool(found.correct[0])
        prompt, answer = question
        wanted = _words(answer)
        room = 2 * len(wanted) + 3  # a stop is a token too, and a word may be several
        said = _words(generate(twin, self.tokenizer, prompt, room))[: len(wanted)]
        return " ".join(said), said == wanted


def bits_and_text(
    shrink: Callable[[int], Shrunk],
    *,
    prompt: str,
    questions: Questions | None = None,
    start: int = 16,
) -> Dashboard:
    """The widget. shrink: a `Shrinker`, or any function of the width that gives a
    `Shrunk`; prompt and questions are those that it was made with.
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
    """The words of `after`, and whether each is another than in `before`.

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
    words = changed(whole.said, now.said)
    first = next((i + 1 for i, (_, new) in enumerate(words) if new), None)
    said = "the text is the same"
    if first is not None:
        other = sum(new for _, new in words)
        said = f"{other} of {len(words)} words changed, the first is word {first}"
    elif whole.said != now.said:
        said = f"the text ends after {len(words)} words"
    cost = number(now.nats - whole.nats, digits=3, sign=True)
    right = f", {sum(now.right)} of {len(now.right)} answers right" * bool(now.right)
    return (
        f'<p style="margin:0 0 6px"><b>{now.bits} bits</b>: '
        f"{now.size.total / whole.size.total:.0%} of the size, loss {cost} nats per "
        f"token, {said}{right}.</p>"
    )


def _panel(whole: Shrunk, prompt: str, questions: Questions, now: Shrunk) -> str:
    """Both texts side by side, and the questions with what was answered."""
    left = html.escape(whole.said)
    right = " ".join(
        _marked(word) if new else html.escape(word)
        for word, new in changed(whole.said, now.said)
    )
    texts = "".join(
        f'<div style="flex:1 1 320px"><b>{title}</b><br>'
        f'<span style="color:{palette.MUTED}">{html.escape(prompt)}</span> {text}</div>'
        for title, text in (("in 16 bits", left), (f"in {now.bits} bits", right))
    )
    rows = "".join(
        _row(name, *_read(question), answer, good)
        for (name, question), answer, good in zip(
            questions.items(), now.answers, now.right, strict=True
        )
    )
    table = (
        f'<table style="margin:10px 0 0;font:inherit;color:inherit">{rows}</table>'
        if rows
        else ""
    )
    return (
        f'<div style="background:{palette.PAPER};color:{palette.INK};padding:10px 14px;'
        f'border:1px solid {palette.HAIRLINE};max-width:872px;line-height:1.5">'
        f'<div style="display:flex;flex-wrap:wrap;gap:10px 28px">{texts}</div>{table}'
        "</div>"
    )


def _marked(word: str) -> str:
    """A changed word: a ground, a line beneath, and bold type say so together."""
    look = f"background:{palette.HIGHLIGHT};color:{palette.INK};"
    look += f"border-bottom:2px solid {palette.VERMILION}"
    return f'<mark style="{look}"><b>{html.escape(word)}</b></mark>'


def _read(question: Question) -> tuple[str, str]:
    """The end of a question's prompt as one writes it, and its answer."""
    if isinstance(question, Probe):
        question = question.prompt, " ".join(question.answer)
    prompt = re.sub(r" ([.,?:])", r"\1", question[0])
    if len(prompt) > TAIL:
        prompt = "… " + prompt[-TAIL:].split(" ", 1)[-1]
    return prompt, question[1]


def _row(name: str, prompt: str, answer: str, said: str, good: bool) -> str:
    """One question: its name, its prompt, what was answered."""
    color, sign = (palette.GREEN, "✓") if good else (palette.VERMILION, "✗")
    wanted = "" if good else f" (right: {html.escape(answer)})"
    verdict = f"<b>{sign} {html.escape(said)}</b>{wanted}"
    cell = "padding:2px 14px 2px 0;text-align:left"
    return (
        f'<tr><th scope="row" style="{cell}">{html.escape(name)}</th>'
        f'<td style="{cell};color:{palette.MUTED}">{html.escape(prompt)}</td>'
        f'<td style="{cell};color:{color}">{verdict}</td>'
        "</tr>"
    )
