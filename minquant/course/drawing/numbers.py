"""Numbers as text and pictures print them, and round numbers for an axis.

Text and pictures use a real minus sign, so that −3 is as wide as +3 and is not taken
for a hyphen.
"""

from __future__ import annotations

from typing import SupportsFloat, SupportsInt

import numpy as np
from jaxtyping import Float

UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}  # decimal, as memory is sold


def integer(x: SupportsInt) -> str:
    """An integer with a real minus sign.

    >>> integer(-3)
    '−3'
    """
    return f"{int(x)}".replace("-", "−")


def number(x: SupportsFloat, *, digits: int = 5, sign: bool = False) -> str:
    """Significant digits and a real minus sign; sign=True writes a plus as well.

    >>> number(-0.0123456), number(0.25, digits=3, sign=True), number(0)
    ('−0.012346', '+0.250', '0')
    """
    if x == 0:
        return "0"
    text = f"{float(x):{'+' if sign else ''}#.{digits}g}"
    return text.rstrip(".").replace("-", "−")


def readable_bytes(n_bytes: float, *, zeros: bool = True) -> str:
    """Bytes in the largest unit that they fill, with three digits.

    zeros: whether zeros at the end are written, as in a column of numbers.

    >>> readable_bytes(6_738_415_616 * 2), readable_bytes(2130), readable_bytes(512)
    ('13.5 GB', '2.13 kB', '512 bytes')
    >>> readable_bytes(7e9), readable_bytes(7e9, zeros=False)
    ('7.00 GB', '7 GB')
    """
    for unit, size in UNITS.items():
        if n_bytes >= size:
            count = n_bytes / size
            text = f"{count:,.0f}" if count >= 999.5 else f"{count:#.3g}".rstrip(".")
            if not zeros and "." in text:
                text = text.rstrip("0").rstrip(".")
            return f"{text} {unit}"
    return f"{n_bytes:.0f} bytes"


def round_numbers(reach: float) -> Float[np.ndarray, " ticks"]:
    """Round numbers for an axis from -reach to reach: two to four on each side of 0.

    >>> round_numbers(0.11).round(2).tolist()
    [-0.1, -0.05, 0.0, 0.05, 0.1]
    """
    reach *= 1 + 1e-9  # a reach of 1, computed, may be a little less
    size = 10.0 ** np.floor(np.log10(reach))
    step = next(s * size for s in (2.5, 2, 1, 0.5) if reach >= 2 * s * size)
    count = int(reach / step)
    return step * np.arange(-count, count + 1)


def tick_labels(ticks: Float[np.ndarray, " ticks"]) -> list[str]:
    """Numbers with as many decimals as the one that needs most, and a real minus sign.

    >>> tick_labels(np.array([-0.1, 0, 0.05]))
    ['−0.10', '0', '0.05']
    """
    texts = [f"{x:.10f}".rstrip("0") for x in ticks]
    decimals = max(len(text.partition(".")[2]) for text in texts)
    return ["0" if x == 0 else f"{x:.{decimals}f}".replace("-", "−") for x in ticks]
