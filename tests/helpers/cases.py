"""What several tests start from: weights with inputs, and tables of measured models."""

import gc
from dataclasses import replace

import torch

from minquant.course.drawing.figure_intervals import Measured
from minquant.course.low_bits.figure_verdict import Version
from minquant.measure.probes import Share
from minquant.planning.choice import Candidate, Harm


def correlated(seed=0, out=3, width=12, n=60):
    """Weights, and H of correlated inputs of different size."""
    generator = torch.Generator().manual_seed(seed)

    def _normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    X = (_normal(n, width) + _normal(n, 1)) * _normal(width).exp()
    return _normal(out, width), X.T @ X


def floats_alive(numel):
    """Tensors of floats that Python holds, of at least so many numbers."""
    gc.collect()
    held = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
    return {id(t) for t in held if t.is_floating_point() and t.numel() >= numel}


# --- lesson 11: versions of a model, with all that was measured of each ---

NONE = Measured(0.0, 0.0, 0.0)
ORIGINAL = Version(
    16, "float", 16.0, 2.5, NONE, NONE, NONE,
    {0: Share(20, 20), 1: Share(19, 20), 2: Share(18, 20)},
    {1: Share(10, 10), 2: Share(9, 10)},
    {16: Share(5, 5), 384: Share(5, 5)},
    "a b c",
)  # fmt: skip
MIDDLING = Version(
    3, "gptq", 3.3, 2.75, Measured(10.0, 8.0, 12.0), Measured(0.08, 0.06, 0.1),
    Measured(15.0, 13.0, 17.0),
    {0: Share(20, 20), 1: Share(14, 20), 2: Share(5, 20)},
    {1: Share(8, 10), 2: Share(3, 10)},
    {16: Share(5, 5), 384: Share(4, 5)},
    "a b d",
)  # fmt: skip
GOOD = replace(
    MIDDLING, bits=8, bits_per_weight=8.4, perplexity=2.4998,
    rise=Measured(-0.008, -0.02, 0.03), kl=Measured(3e-5, 2e-5, 4e-5),
    flips=Measured(1.4, 1.1, 1.7), facts=ORIGINAL.facts,
)  # fmt: skip
OTHER = replace(MIDDLING, bits=2, method="qat", bits_per_weight=2.3)
HOPELESS = replace(
    OTHER, bits=1.58, method="rtn", bits_per_weight=2.25, perplexity=1e6,
    rise=Measured(2e5, 9e4, 3e5), facts={level: Share(0, 20) for level in range(3)},
)  # fmt: skip
VERSIONS = [GOOD, MIDDLING, OTHER, HOPELESS]


# --- lesson 12: candidates for a budget ---


def candidate(name, nbytes, facts, sums, kl):
    """Each harm is (mean, low, high)."""
    harms = {"facts lost": Harm(*facts), "sums lost": Harm(*sums), "KL": Harm(*kl)}
    return Candidate(name, nbytes, harms)


TWO = candidate("2 bits", 312_000, (62, 59, 65), (71, 66, 75), (0.98, 0.9, 1.1))
THREE = candidate("3 bits", 412_000, (4.6, 3.2, 6), (2.5, 0, 5), (0.03, 0.028, 0.032))
FOUR = candidate(
    "4 bits", 515_000, (1.3, 0.5, 1.9), (0.6, -0.2, 1.4), (0.006, 0.005, 0.007)
)
EIGHT = candidate("8 bits", 901_000, (0, -0.3, 0.3), (0, -0.4, 0.4), (2e-5, 1e-5, 3e-5))
CANDIDATES = [EIGHT, TWO, FOUR, THREE]
LINES = {"facts lost": 2.0, "sums lost": 2.0, "KL": 0.01}
UNITS = {"facts lost": "points", "sums lost": "points", "KL": "nats per token"}
ROWS = [TWO, THREE, FOUR, EIGHT]
