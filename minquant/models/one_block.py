"""One decoder block alone, on the inputs that it has in the model.

    calls  = block_inputs(model, ...)    how the model calls each block: its masks, ...
    hidden = what the first block reads
    for each block:
        hidden = advance(block, calls, hidden)      as often as one likes

`feeders` runs a block again and again, changed a little, and compares its outputs. What
is left out: blocks that pass more to each other than hidden states.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models.calibrate import removing, run_body


class Call(NamedTuple):
    """How a block is called on one batch: the hidden states, which are kept for the
    first block only, and all other arguments."""

    hidden: Tensor | None
    args: tuple
    kwargs: dict[str, Any]


def block_inputs(
    model: nn.Module,
    blocks: nn.ModuleList,
    calibration: Sequence[Int[Tensor, "_ _"]],
) -> Iterator[list[Call]]:
    """For each block in turn, how the model calls it on each calibration batch.

    Only the first block's calls hold hidden states (batch, time, width); those of the
    other blocks come from `advance`. Masks and positions are kept for each block, as
    they differ between blocks in Gemma. A block's calls are freed when the next
    block's are asked for.

    Raises ValueError if the model is in training mode, or does not call each block
    exactly once per batch on the output of the block before it.
    """
    if model.training:
        raise ValueError("model is in training mode; call model.eval() first")
    journal = _Journal(len(blocks))
    with journal.recording(blocks), torch.no_grad():
        run_body(model, calibration)
    journal.check(type(model).__name__, len(calibration))
    while journal.calls:
        yield journal.calls.pop(0)


class _Journal:
    """Records how each block is called, and whether one block feeds the next."""

    def __init__(self, blocks: int) -> None:
        self.calls: list[list[Call]] = [[] for _ in range(blocks)]
        self.broken: list[int] = []  # blocks that did not read the last one's output
        self.last: tuple[int, Tensor | None] = -1, None  # a block and its output

    @contextmanager
    def recording(self, blocks: nn.ModuleList) -> Iterator[None]:
        """While this lasts, hooks on all blocks record their calls."""
        handles = []
        for k, block in enumerate(blocks):
            before, after = partial(self.enter, k), partial(self.leave, k)
            handles += [
                block.register_forward_pre_hook(before, with_kwargs=True),
                block.register_forward_hook(after),
            ]
        with removing(handles):
            yield

    def enter(self, k: int, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """Block k is called: keep its arguments, hidden states only of the first."""
        kwargs = dict(kwargs)
        hidden, *args = args or [kwargs.pop("hidden_states")]
        last_block, last_output = self.last
        if k and (last_block != k - 1 or not _same(hidden, last_output)):
            self.broken.append(k)
        self.calls[k].append(Call(None if k else hidden, tuple(args), kwargs))

    def leave(self, k: int, _: nn.Module, args: tuple, output: Any) -> None:
        """Block k returns: remember its output, which the next block should read."""
        self.last = k, _states(output)

    def check(self, name: str, batches: int) -> None:
        """Raise ValueError unless each block was called once per batch, on the output
        of the block before it."""
        times = [len(calls) for calls in self.calls]
        odd = self.broken or [k for k, n in enumerate(times) if n != batches]
        if odd:
            raise ValueError(
                f"model {name} does not call its decoder layer {odd[0]} exactly once "
                "per batch on the output of the layer before it, so its layers cannot "
                "be calibrated one by one; take a method that needs no calibration, "
                "such as quantize_rtn"
            )


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and torch.equal(a, b.to(a.device)))


def _states(output: Any) -> Tensor:
    """The hidden states in what a block returns: a tensor, or the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def advance(
    block: nn.Module,
    calls: Sequence[Call],
    hidden: Sequence[Float[Tensor, "_ _ width"]] | None = None,
) -> list[Float[Tensor, "_ _ width"]]:
    """Run a block on every batch, as the model calls it. Returns the hidden states
    after it, batch by batch.

    hidden: the hidden states before it; None for the first block, whose calls hold
    them.
    """
    before = [call.hidden for call in calls] if hidden is None else hidden
    after = []
    for states, call in zip(before, calls, strict=True):
        after.append(_states(block(states, *call.args, **call.kwargs)))
    return after
