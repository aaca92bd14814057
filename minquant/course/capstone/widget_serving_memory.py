"""Does it fit? Choose a model, a card, a width and the tokens that are held.

    serving_planner()      # the last line of a cell

There is a bar for each width, the chosen one marked, beside the card's memory. Every
number comes from `serving_memory`, for the shapes of real models, without what an
engine needs for itself. Notebook 12 shows it.
"""

from __future__ import annotations

from minquant.course.capstone.figure_serving_memory import ServingPicture
from minquant.course.drawing.numbers import readable_bytes
from minquant.course.live.controls import choice
from minquant.course.live.dashboard import Dashboard, Frame
from minquant.course.live.markup import paragraph
from minquant.planning import serving_memory
from minquant.planning.roofline import CARDS
from minquant.planning.serving_memory import MODELS, need, tokens_that_fit

MEMORY = {f"{c.name} ({c.memory / 1e9:g} GB)": c.memory for c in CARDS.values()}
WIDTHS = {  # with a scale of 16 bits for each 128 weights
    f"{bits:g} bits": bits for bits in (16.0, 8.125, 4.125, 3.125, 2.125)
}
TOKENS = {f"{n:,}": n for n in (0, 2**12, 2**14, 2**16, 2**18, 2**20)}
CACHE = {  # 8: floats, as they are; 4: a scale of 16 bits and a zero for each 32
    "16 bits": 16.0,
    "8 bits": 8.0,
    "4.625 bits": 4 + (16 + 4) / 32,
}


def serving_planner(
    *,
    model: str = "Llama-3.1-8B",
    card: str = "T4 (16 GB)",
    bits: str = "4.125 bits",
    tokens: int = 2**14,
) -> Dashboard:
    """The widget. model, card, bits, tokens: the first values."""
    controls = {
        "model": choice("model", model, list(MODELS)),
        "card": choice("card", card, list(MEMORY)),
        "bits": choice("weights", bits, list(WIDTHS)),
        "tokens": choice("tokens held", tokens, TOKENS),
        "cache": choice("KV cache", 16.0, CACHE),
    }
    return Dashboard(Planner().draw, controls)


class Planner:
    """Computes the bars and draws them."""

    def __init__(self) -> None:
        self.picture: ServingPicture | None = None

    def draw(
        self, *, model: str, card: str, bits: str, tokens: int, cache: float
    ) -> Frame:
        """The bars, and what to do in words."""
        shape, memory = MODELS[model], MEMORY[card]
        rows, fits = {}, {}
        for name, width in WIDTHS.items():
            stored = {"bits_per_weight": width, "cache_bits": cache}
            rows[name] = need(shape, tokens=tokens, **stored)
            fits[name] = tokens_that_fit(shape, memory, **stored)
        labels = {"card": card, "chosen": bits}
        if self.picture is None:
            self.picture = ServingPicture(rows, fits, memory, **labels)
        else:
            self.picture.update(rows, fits, memory, **labels)
        words = _words(rows[bits], fits[bits], memory, tokens)
        return Frame(self.picture.fig, words)


def _words(row: serving_memory.Need, fits: int, memory: int, tokens: int) -> str:
    weights = row.matrices + row.rest
    if row.total <= memory:
        left = readable_bytes(memory - row.total)
        verdict = (
            f"<b>It fits</b>, and {left} are left: for {fits - tokens:,} tokens more, "
            "but for the share that an engine needs to work in."
        )
    elif weights <= memory:
        verdict = (
            f"The weights fit, and {fits:,} tokens beside them, <b>not {tokens:,}</b>. "
            "Hold fewer tokens, or give cache or weights fewer bits."
        )
    else:
        verdict = (
            f"<b>The weights alone do not fit</b>: {readable_bytes(weights)} of "
            f"{readable_bytes(memory)}. Fewer bits, a smaller model, or more cards."
        )
    share = f"{row.cache / row.total:.0%} of {readable_bytes(row.total)}"
    return paragraph(f"{verdict} The cache is {share}.", space=0)
