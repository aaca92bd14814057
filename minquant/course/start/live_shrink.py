"""The live picture of lesson 00: one slider, from 16 bits to 2.

    shrink = Shrinker(model, tokenizer, texts, prompt=PROMPT)
    shrinking(shrink, W[0, :5], PROMPT)       # the last line of a cell

Every width is measured once, here, when the picture is made: the bytes, the loss, and
what the model writes. `shrink.js` shows them, and snaps five weights to the ruler of
each width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import traitlets
from jaxtyping import Float
from torch import Tensor

from minquant.course.live.picture import LivePicture
from minquant.course.start.shrinker import Shrunk, changed
from minquant.methods import rtn

WIDTHS = 16, 8, 6, 5, 4, 3, 2


class ShrinkPicture(LivePicture):
    """A model at several widths, the first of them 16 bits.

    made: a `Shrunk` for each width. weights: a few of the model's, (n,). prompt: what
    the texts continue. bits: the width to begin with.

    Raises ValueError if made does not begin with 16 bits, or has no such width.
    """

    script = Path(__file__).with_name("shrink.js")

    weights = traitlets.List(traitlets.Float()).tag(sync=True)
    prompt = traitlets.Unicode().tag(sync=True)
    states = traitlets.List().tag(sync=True)
    step = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        made: Sequence[Shrunk],
        weights: Float[Tensor, ...],
        prompt: str,
        *,
        bits: int = 16,
    ) -> None:
        widths = [state.bits for state in made]
        if widths[:1] != [16]:
            raise ValueError(f"made holds {widths} bits; begin with the model in 16")
        if bits not in widths:
            raise ValueError(f"bits is {bits}; choose from {widths}")
        if weights.ndim != 1:
            raise ValueError(
                f"weights has shape {tuple(weights.shape)}; give a few of one row"
            )
        super().__init__(
            weights=rtn.floats(weights[None], "weights")[0].float().tolist(),
            prompt=prompt,
            states=[
                {
                    "bits": state.bits,
                    "quantized": state.size.quantized,
                    "elsewhere": state.size.elsewhere,
                    "nats": state.nats,
                    "words": changed(made[0].text, state.text),
                }
                for state in made
            ],
            step=widths.index(bits),
        )

    @property
    def words(self) -> str:
        """What the picture shows."""
        now, whole = self.states[self.step], self.states[0]
        loss = f"the loss is {now['nats']:.3g} nats per token"
        share = sum(now[k] for k in ("quantized", "elsewhere"))
        share /= sum(whole[k] for k in ("quantized", "elsewhere"))
        return f"A model in {now['bits']} bits: {share:.0%} of the size, {loss}."


def shrinking(
    shrink: Callable[[int], Shrunk],
    weights: Float[Tensor, ...],
    prompt: str,
    *,
    bits: int = 16,
) -> ShrinkPicture:
    """The live picture. shrink: a `Shrinker`, asked for each of `WIDTHS`."""
    made = [shrink(width) for width in WIDTHS]
    return ShrinkPicture(made, weights, prompt, bits=bits)
