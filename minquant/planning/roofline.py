"""How fast a product can be at best: bytes over bandwidth, operations over peak.

    Y = X W_hatᵀ for M tokens    bytes        N · K · bits / 8  +  2 · M · (N + K)
                                 operations   2 · M · N · K      a multiply and an add
    seconds, at least            the larger of bytes / bandwidth and operations / peak

This is the roofline (Williams, Waterman and Patterson 2009). Operations per byte are
the *arithmetic intensity*. Where the two times are equal is the ridge. A product with
weights of 16 bits has an intensity of about M, so the ridge is a number of tokens.
Below it a machine waits for weights, and fewer bits make it faster in proportion. Above
it a machine waits for arithmetic, and fewer bits in the weights do not make that less:
a *weight-only* format turns codes back into numbers of 16 bits before it multiplies.
Where weights and inputs both have few bits, arithmetic has another, higher peak.

    `least_seconds`         codes are read, and multiplied as they come
    `written_first`         codes are read and W_hat is written; a product of 16 bits
                            then reads it. Always slower than 16 bits from the start
    `without_tensor_cores`  the same machine, for kernels that cannot use them
    `computing_in`          the same machine, for products in int8, FP8 or FP4

`CARDS` holds the makers' figures of each card, for lessons 10 and 12. They are peaks
that no product reaches. What is left out: the instructions that turn codes into
numbers, caches, and the time to start a kernel. Lesson 10 measures a machine and draws
its roofline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

FP16 = 16


class Product(NamedTuple):
    """Y (tokens, out) = X (tokens, width) · Wᵀ, for W of shape (out, width)."""

    tokens: int
    out: int
    width: int

    @property
    def operations(self) -> int:
        """How many multiplications and additions it takes.

        >>> Product(tokens=2, out=3, width=4).operations
        48
        """
        return 2 * self.tokens * self.out * self.width

    def nbytes(self, bits_per_weight: float) -> float:
        """Bytes of W, and of X and Y in 16 bits, each moved once.

        >>> Product(tokens=1, out=1024, width=1024).nbytes(4.125)
        544768.0
        """
        weights = self.out * self.width * bits_per_weight / 8
        return weights + 2 * self.tokens * (self.out + self.width)

    def intensity(self, bits_per_weight: float) -> float:
        """Operations per byte."""
        return self.operations / self.nbytes(bits_per_weight)


@dataclass(frozen=True)
class Machine:
    """What a machine can do at most.

    bandwidth: bytes per second of its main memory. peak: operations per second in 16
    bits, on tensor cores if it has them (of a CPU: in 32 bits). plain: operations per
    second in 32 bits without tensor cores. capability: Nvidia's compute capability.
    memory: bytes, in GB of 10^9 as sold (some mean 2^30, which is 7 % more). narrow:
    operations per second where weights and inputs both have few bits, by format.

    Raises ValueError for a rate that is not above 0.
    """

    name: str
    bandwidth: float
    peak: float
    plain: float | None = None
    capability: tuple[int, int] | None = None
    memory: int | None = None
    narrow: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        rates = {name: getattr(self, name) for name in ("bandwidth", "peak", "plain")}
        for name, rate in {**rates, **self.narrow}.items():
            if rate is not None and not rate > 0:
                raise ValueError(f"{name} is {rate}; give what it does per second")

    @property
    def ridge(self) -> float:
        """Operations per byte above which arithmetic takes longer than reading."""
        return self.peak / self.bandwidth

    def crossover(self, bits_per_weight: float) -> float:
        """Up to how many tokens reading the weights takes longer than the arithmetic.

        A weight is bits / 8 bytes, and takes 2 operations for each token.

        >>> round(CARDS["T4"].crossover(16)), round(CARDS["T4"].crossover(4.125))
        (203, 52)
        """
        return self.ridge * bits_per_weight / 8 / 2

    def attainable(self, intensity: float) -> float:
        """Operations per second at this intensity (operations per byte): the roof."""
        return min(self.peak, intensity * self.bandwidth)

    def without_tensor_cores(self) -> Machine:
        """The same machine with `plain` as its peak.

        Raises ValueError if `plain` is not known.
        """
        if self.plain is None:
            raise ValueError(f"plain of {self.name} is None; give its 32-bit peak")
        return replace(
            self, name=f"{self.name}, no tensor cores", peak=self.plain, plain=None
        )

    def computing_in(self, form: str) -> Machine:
        """The same machine with weights and inputs in this format of `narrow`.

        Raises ValueError if the machine does not compute in it.

        >>> round(CARDS["H100"].computing_in("FP8").peak / CARDS["H100"].peak, 2)
        2.0
        """
        if form not in self.narrow:
            known = ", ".join(self.narrow) or "none"
            raise ValueError(f"{self.name} does not compute in {form}; it has {known}")
        return replace(self, name=f"{self.name} in {form}", peak=self.narrow[form])


def least_seconds(
    machine: Machine, product: Product, bits_per_weight: float = FP16
) -> float:
    """The shortest possible time in seconds, if each byte moves once.

    >>> slow = Machine("a thousand bytes, a thousand operations", 1e3, 1e3)
    >>> least_seconds(slow, Product(1, 10, 10)), least_seconds(slow, Product(4, 10, 10))
    (0.24, 0.8)
    """
    reading = product.nbytes(bits_per_weight) / machine.bandwidth
    return max(reading, product.operations / machine.peak)


def written_first(machine: Machine, product: Product, bits_per_weight: float) -> float:
    """The shortest possible time in seconds, if W_hat is written in 16 bits first.

    Codes are read and W_hat is written; then a product of 16 bits reads W_hat.
    """
    weights = product.out * product.width
    writing = weights * (bits_per_weight + FP16) / 8 / machine.bandwidth
    return writing + least_seconds(machine, product)


# From the makers' data sheets, for 16 bits in and sums of 32 bits. Products are dense:
# Nvidia prints twice as much, for matrices of which half is zeros. T4: NVIDIA T4 Tensor
# Core GPU (2019). A10: NVIDIA A10 Tensor Core GPU (2021). A100: NVIDIA A100 Tensor Core
# GPU, SXM, 80 GB (2021). H100: NVIDIA H100 Tensor Core GPU, SXM (2023). B200: one of
# the eight GPUs of NVIDIA DGX B200 (2024). RTX 3060: GeForce RTX 3060 (2021), a quarter
# of the 101e12 printed there, as a GeForce takes twice as long for sums of 32 bits as
# for sums of 16.
GB = 10**9
# fmt: off
NARROW: dict[str, dict[str, float]] = {
    "T4":   {"int8":  130e12},
    "A10":  {"int8":  250e12},
    "A100": {"int8":  624e12},
    "H100": {"int8": 1979e12, "FP8": 1979e12},
    "B200": {"FP8":  4500e12, "FP4": 9000e12},
}
CARDS: dict[str, Machine] = {
    name: Machine(name, *figures, narrow=NARROW.get(name, {}))
    for name, *figures in (
        # name       bytes/s    peak     plain   capability  memory
        ("RTX 3060",  360e9,  25.3e12,  12.7e12,   (8, 6),   12 * GB),
        ("T4",        320e9,    65e12,   8.1e12,   (7, 5),   16 * GB),
        ("A10",       600e9,   125e12,  31.2e12,   (8, 6),   24 * GB),
        ("A100",     2039e9,   312e12,  19.5e12,   (8, 0),   80 * GB),
        ("H100",     3350e9, 989.4e12,  66.9e12,   (9, 0),   80 * GB),
        ("B200",     8000e9,  2250e12,    75e12,  (10, 0),  180 * GB),
    )
}
# fmt: on
