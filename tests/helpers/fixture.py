"""A seeded layer whose numbers other implementations can be held to.

Weights are normal; activations are correlated, with a few channels twenty times the
rest. numpy's PCG64 gives the same numbers on every machine.
"""

import contextlib
import functools
from typing import NamedTuple

import jaxtyping
import numpy as np
import torch
from torch import Tensor


class Layer(NamedTuple):
    """One matrix and what goes into it."""

    W: Tensor  # (out, in)
    X_calibration: Tensor  # (4096, in)
    X_held_out: Tensor  # (1024, in)


@functools.cache
def layer(out=512, width=1024, n_calibration=4096):
    """The layer; the small one unless told otherwise. Do not write into it."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    W = normal(out, width) * 0.02
    r = width // 8
    mix = normal(r, width) / np.float32(np.sqrt(r))
    channels = np.exp(0.5 * rng.standard_normal(width)).astype(np.float32)
    channels[rng.choice(width, width // 128, replace=False)] *= 20

    def inputs(n):
        X = (normal(n, r) @ mix + np.float32(0.3) * normal(n, width)) * channels
        return torch.from_numpy(X)

    return Layer(torch.from_numpy(W), inputs(n_calibration), inputs(1024))


def error(W_hat, made=None):
    """mean((X (W_hat − W)ᵀ)²) on the held-out inputs of the small layer."""
    made = made or layer()
    return (made.X_held_out @ (W_hat - made.W).T).square().mean().item()


@contextlib.contextmanager
def as_learners_have_it():
    """Without the shape checks that only pytest installs, to hear our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
