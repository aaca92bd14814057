"""What flows into each layer: X or H, block by block, one block in memory at a time.

GPTQ and AWQ judge a matrix by its inputs, and these are known only when text has gone
through everything before it. So the text walks through the model block by block:

    calls  = block_inputs(model, ...)    how the model calls each block: its masks, ...
    hidden = what the first block reads
    for each block:
        for each group of matrices that share an input:           `sharing`
            run the block on hidden, keep what goes into them     `collect`
            the caller quantizes them and writes W_hat
        hidden = the output of the block, now quantized           `advance`

So each matrix gets the inputs that the model, as quantized so far, produces, and can
make up for errors made before it (Frantar et al. 2023, section 4). X (n, in) holds a
row per token. H = XᵀX (in, in) is the sum of xᵀx over tokens, so batches are added up
and X is never kept:

    H = sum over batches b of  X_bᵀ X_b         in float32, whatever the model's dtype

Saving memory costs time: a block runs once per group, though only as far as the group.
What is left out: blocks that pass more to each other than hidden states. Lesson 06.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models.text import check_batches

Run = Callable[[], Any]  # sends all calibration text through one block
See = Callable[[str, Tensor], None]  # gets the name and the inputs of a layer


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


def run_body(model: nn.Module, calibration: Sequence[Int[Tensor, "_ _"]]) -> None:
    """Run all text through the model, so that hooks see it. lm_head is left out: no
    logits are needed."""
    check_batches(model, calibration)
    device = next(model.parameters()).device
    body = getattr(model, "base_model", model)
    for ids in calibration:
        body(input_ids=ids.to(device), use_cache=False)


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
        with suppress(_Enough):  # a batch cut short by `collect` has no result
            after.append(_states(block(states, *call.args, **call.kwargs)))
    return after


def sharing(layers: Mapping[str, nn.Module], run: Run) -> list[list[str]]:
    """The names of layers, grouped by the tensor that they read, in the order in which
    they run.

    In a Llama block these are [q, k, v], [o], [gate, up], [down]. `run` sends the
    calibration text through the block.

    Raises ValueError if no token reaches a layer.
    """
    if not layers:
        return []
    read: dict[str, Tensor] = {}  # all are kept alive, so no two have the same id()

    def see(name: str, states: Tensor) -> None:
        """Note what a layer reads; stop the block when all layers have run."""
        read.setdefault(name, states)
        if len(read) == len(layers):
            raise _Enough

    with watching(layers, see):
        run()
    idle = [name for name in layers if name not in read]
    if idle:
        raise ValueError(
            f"calibration never reaches {', '.join(idle)}; give more text, or leave it "
            "out with only="
        )
    groups: dict[int, list[str]] = {}
    for name, states in read.items():
        groups.setdefault(id(states), []).append(name)
    return list(groups.values())


def collect(
    layers: Mapping[str, nn.Module], names: Sequence[str], run: Run, what: str
) -> Float[Tensor, "rows in"]:
    """X or H of the layers `names`, which share an input, over all of `run`.

    what: 'X', the inputs (n, in) in the model's dtype, a row per token, in the order of
    the batches; or 'H' = XᵀX (in, in) in float32, summed over the batches.

    Raises ValueError if `what` is neither of these, if names are not those of layers,
    or if inputs are not finite.
    """
    if what not in ("X", "H"):
        raise ValueError(f"what is {what!r}; choose 'X' or 'H'")
    if isinstance(names, str) or not names or not set(names) <= set(layers):
        raise ValueError(
            f"names is {names!r}; give names of the layers that share an input, such "
            f"as {list(layers)[:1]}"
        )
    name = names[0]
    kept: list[Tensor] = []

    def see(_: str, states: Tensor) -> None:
        """Keep a batch's rows, or add them to H."""
        X = states.flatten(0, -2)  # (batch, time, in) -> (n, in)
        if not X.isfinite().all():
            raise ValueError(
                f"calibration gives {name} inputs in {X.dtype} that are not finite; "
                "load the model with dtype=torch.float32"
            )
        if what == "X":
            kept.append(X)
        else:
            kept[:] = [_add_gram(X.float(), *kept)]
        raise _Enough

    with watching({name: layers[name]}, see):
        run()
    return torch.cat(kept) if what == "X" else kept[0]


def _add_gram(
    X: Float[Tensor, "n in"], H: Float[Tensor, "in in"] | None = None
) -> Float[Tensor, "in in"]:
    return X.T @ X if H is None else H.addmm_(X.T, X)


class _Enough(Exception):
    """A hook has seen what it was waiting for: the rest of the block need not run."""


@contextmanager
def watching(layers: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """While this lasts, `see(name, inputs)` is called before each layer runs."""

    def hook(name: str, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """Torch calls this before a layer's forward."""
        see(name, args[0] if args else kwargs["input"])

    handles = [
        layer.register_forward_pre_hook(partial(hook, name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    with removing(handles):
        yield


@contextmanager
def removing(handles: Sequence[Any]) -> Iterator[None]:
    """Remove hooks at the end, also after an error or an interruption."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
