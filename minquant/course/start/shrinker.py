"""A model at any width: what it weighs, what it loses, what it writes.

    shrink = Shrinker(model, tokenizer, texts, prompt="Story. It was winter")
    shrink(4).nats, shrink(4).text

Every matrix of its layers is rounded to nearest, with one symmetric ruler for each row.
Each width is measured when it is first asked for, and remembered. Lesson 00.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from typing import Any

from torch import nn

from minquant.measure.evaluate import perplexity
from minquant.methods.rtn import quantize_rtn
from minquant.models.linear_layers import Size, linear_layers, size
from minquant.models.quantize import quantize
from minquant.models.text import HasText, generate
from minquant.numerics.grids import absmax


@dataclass(frozen=True)
class Shrunk:
    """A model at one width. size: bytes. nats: loss per token. text: how it continues a
    prompt."""

    bits: int
    size: Size
    nats: float
    text: str = ""


class Shrinker:
    """The model at any width: called with bits, it gives a `Shrunk`, and remembers it.

    documents: a few test documents to measure the loss on. new: how many tokens to
    write. 16 bits are fp16 itself.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        documents: Sequence[str | HasText],
        *,
        prompt: str,
        new: int = 40,
    ) -> None:
        self.model, self.tokenizer, self.documents = model, tokenizer, list(documents)
        self.prompt, self.new = prompt, new
        self._tried: dict[int, Shrunk] = {}

    def __call__(self, bits: int) -> Shrunk:
        """The model at this width."""
        if bits not in self._tried:
            twin, twin_size = self._shrink(bits)
            loss = perplexity(twin, self.tokenizer, self.documents, progress=False)
            text = generate(twin, self.tokenizer, self.prompt, self.new)
            self._tried[bits] = Shrunk(bits, twin_size, loss.nats, text)
        return self._tried[bits]

    def _shrink(self, bits: int) -> tuple[nn.Module, Size]:
        """A copy of the model at this width, and its bytes."""
        if bits < 16:
            method = partial(quantize_rtn, grid=absmax(bits))
            twin, report = quantize(self.model, method, progress=False)
            return twin, size(twin, report)
        dtype = next(self.model.parameters()).dtype
        twin = copy.deepcopy(self.model).half().to(dtype)
        layers = linear_layers(twin)
        weights = sum(layer.weight.numel() for layer in layers.values())
        everything = size(twin).total
        return twin, Size(2 * weights, everything - 2 * weights, len(layers), weights)


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
