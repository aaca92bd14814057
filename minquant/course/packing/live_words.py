"""The live picture of lesson 10: a word of 32 bits, and a code taken out of it.

    word_of(packed, row=5)          # a PackedMatrix of 4 bits: the last line of a cell

The reader steps through the eight codes of a word, and sees the shift and the mask as
bits; flipping a bit changes a weight. `words.js` shifts and masks in the browser; a
test compares its codes and weights with `unpack_matrix` and `dequantize`.
"""

from __future__ import annotations

from pathlib import Path

import traitlets

from minquant.course.drawing.numbers import number
from minquant.course.live.picture import LivePicture
from minquant.kernels.packed_words import PackedMatrix, dequantize, unpack_matrix

BLOCK, WORDS, FIELDS = 128, 16, 4  # weights and words of a block; codes of half a word


class WordPicture(LivePicture):
    """The first block of a row: 16 words of eight codes, 128 weights.

    packed: of 4 bits, without zeros. row: which. word: of the 16, to begin with. code:
    which of the word's eight, 0 in the lowest bits.

    Raises ValueError if packed has other bits, zeros, or rows shorter than a block.
    """

    script = Path(__file__).with_name("words.js")

    words_held = traitlets.List(traitlets.Int()).tag(sync=True)  # 0 … 2^32 − 1
    scales = traitlets.List(traitlets.Float()).tag(sync=True)  # of weights 32i … 32i+31
    row = traitlets.Int().tag(sync=True)
    word = traitlets.Int().tag(sync=True)
    code = traitlets.Int().tag(sync=True)

    def __init__(
        self, packed: PackedMatrix, row: int = 0, word: int = 0, code: int = 0
    ) -> None:
        if packed.bits != 4 or packed.zeros is not None or packed.shape[1] < BLOCK:
            raise ValueError(
                f"packed has {packed.bits} bits and {packed.shape[1]} columns; give 4 "
                f"bits of a symmetric grid, and {BLOCK} columns or more"
            )
        firsts = range(0, BLOCK, BLOCK // FIELDS)
        scales = packed.scales[row].float()
        super().__init__(
            words_held=[w & 0xFFFFFFFF for w in packed.words[row, :WORDS].tolist()],
            scales=[scales[k // packed.group_size].item() for k in firsts],
            row=row,
            word=word,
            code=code,
        )
        self.packed = packed

    @property
    def words(self) -> str:
        """What the picture shows."""
        i, half = self.code // 2, self.code % 2
        column, rows = 32 * i + 2 * self.word + half, slice(self.row, self.row + 1)
        code = int(unpack_matrix(self.packed, rows)[0, column])
        weight = dequantize(self.packed, rows=rows)[0, column]
        return (
            f"The 32 bits of word {self.word}, {self.words_held[self.word]:032b}. "
            f"Shifted by {16 * half + 4 * i} places and masked with 15 they give the "
            f"code {code}, which is the weight {number(weight, digits=3)} in column "
            f"{column}."
        )


def word_of(packed: PackedMatrix, row: int = 0, **start: int) -> WordPicture:
    """The live picture; `start` takes word and code, as `WordPicture` does."""
    return WordPicture(packed, row, **start)
