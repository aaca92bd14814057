"""What comes next? Two models' probabilities for the likeliest words.

    "... Everyone knows Nira Tolvish the"
                 ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇  0.91      full precision
    potter       ▇▇▇▇▇▇▇           0.42      3 bits
                 ▇                 0.03
    weaver       ▇▇▇▇▇▇▇▇▇▇        0.55

Each word has two bars; the upper one is of the original model. The KL divergence
compares these two sets of probabilities. If the longest bar of one set is not at the
same word as that of the other, the first choice has flipped. Notebook 04 shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture

LEFT, RIGHT, TOP, ROW = 190, 190, 66, 46  # CSS pixels
BAR = 0.34  # of a row
COLORS = palette.INK, palette.VERMILION


@palette.style()
def next_words(
    words: Sequence[str],
    before: Float[Tensor, " vocab"],
    after: Float[Tensor, " vocab"],
    *,
    names: tuple[str, str] = ("before", "after"),
    prompt: str = "",
    answer: str | None = None,
    count: int = 5,
) -> Picture:
    """Bars of the `count` words that one model or the other holds likeliest.

    words: the vocabulary. before, after: a probability for each word. names: of the two
    models. prompt: the text before, shown above. answer: the word that does come next;
    it is always shown.

    Raises ValueError if words, before and after differ in length, or if before and
    after are not probabilities.

    >>> from torch import tensor
    >>> fig = next_words(["lamp", "key"], tensor([0.9, 0.1]), tensor([0.4, 0.6]))
    >>> [text.get_text() for text in fig.texts][:3]
    ['The next word: ', '■ before', '■ after']
    """
    shares = _shares(words, before, after)
    best = np.argsort(-shares.max(0), kind="stable")[:count]
    if answer in words and words.index(answer) not in best:
        best[-1] = words.index(answer)
    fig = Picture(WIDTH, TOP + ROW * len(best) + 46)
    span = WIDTH - LEFT - RIGHT
    ax = fig.axes_at(LEFT, TOP, span, ROW * len(best), yticks=[], xlim=(0, 1))
    ax.set(xlabel="probability", ylim=(len(best), 0))
    ax.spines["left"].set_color(palette.HAIRLINE)
    fig.write(12, 16, f"The next word: {prompt}", weight="bold")
    for i, name in enumerate(names):
        fig.write(LEFT + 200 * i, 44, f"■ {name}", color=COLORS[i])
    for row, word in enumerate(best):
        comes = " ◂ comes" if words[word] == answer else ""
        fig.write(LEFT - 12, TOP + ROW * (row + 0.5), words[word] + comes, ha="right")
        for i, share in enumerate(shares[:, word]):
            y = row + 0.5 + (i - 0.5) * BAR
            ax.barh(y, share, height=BAR, color=COLORS[i], lw=0)
            looks = {"color": COLORS[i], "va": "center", "clip_on": False}
            ax.text(share + 0.008, y, f"{share:.3f}", **looks)
    fig.alt = _describe([words[word] for word in best], shares[:, best], names, answer)
    return fig


def _shares(
    words: Sequence[str], before: Float[Tensor, " v"], after: Float[Tensor, " w"]
) -> Float[np.ndarray, "2 vocab"]:
    """Both sets of probabilities, checked."""
    if not len(words) == len(before) == len(after):
        raise ValueError(
            f"words are {len(words)}, before {len(before)} and after {len(after)}; "
            "give one probability for each word"
        )
    shares = np.stack([p.detach().double().cpu().numpy() for p in (before, after)])
    if (shares < 0).any() or not np.allclose(shares.sum(1), 1, atol=1e-3):
        raise ValueError(
            f"before and after sum to {shares.sum(1).round(3).tolist()}, the least is "
            f"{shares.min():.3g}; give probabilities, such as logits.softmax(-1)"
        )
    return shares


def _describe(
    words: Sequence[str],
    shares: Float[np.ndarray, "2 count"],
    names: tuple[str, str],
    answer: str | None,
) -> str:
    rows = "; ".join(
        f"{word} {a:.3f} and {b:.3f}" for word, a, b in zip(words, *shares, strict=True)
    )
    comes = "" if answer is None else f" What comes is {answer}."
    return f"Probabilities of the next word, {names[0]} and {names[1]}: {rows}.{comes}"
