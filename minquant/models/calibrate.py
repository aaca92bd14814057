"""What flows into each layer: X or H, while calibration text goes through the model.

GPTQ and AWQ judge a matrix by its inputs, and these are known only when text has gone
through everything before it. So the text goes through the model once, and stops before
each group of matrices that read the same tensor:

    for each group, in the order of the forward pass:           `sharing`
        every batch runs up to the group and waits there        `_Batch`
        X or H of what the batches are about to read
        the caller quantizes the group and writes W_hat
    the batches run on, through the new weights

So each matrix gets the inputs that the model, as quantized so far, produces, and can
make up for errors made before it (Frantar et al. 2023, section 4). X (n, in) holds a
row per token. H = XᵀX (in, in) is the sum of xᵀx over tokens, so batches are added up
and X is never kept:

    H = sum over batches b of  X_bᵀ X_b         in float32, whatever the model's dtype

A function of Python cannot be left in the middle and entered again there, but a
greenlet can: it has a stack of its own. So each batch is a greenlet. What a batch has
computed, and will need again, stays where it is, in the local variables of the model's
own code: in a Llama about 3 · width + inner numbers for each token. No block runs
twice, and nothing has to be known of masks, positions or how blocks are joined. (A
thread can wait, too, but what it frees is kept for it alone: on SmolLM2 300 MB.)

Experts (`experts.py`) see only the tokens that are sent to them, and none depends on
another. So the text stops once, before all experts of a layer, and each of them reads
its own tokens there. An expert with fewer tokens than a 16th of its inputs gets no X or
H: of so few GPTQ learns their noise. On inputs whose true H is known, 4 bits in groups
of 64 (512 inputs of rank 64, plus noise), GPTQ's error is this share of RTN's:

    tokens / inputs      1/128    1/64    1/32    1/16    1/8     1
    error                 1.24    1.10     .97     .81    .49    .17

What is left out: layers that a forward pass calls more than once. Lesson 06.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from greenlet import getcurrent, greenlet
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant.models.experts import SeparateExperts, separated
from minquant.models.text import check_batches

See = Callable[[str, Any], None]  # gets the name and the inputs of a layer
_SHORT = 16  # tokens of the text that shows in which order layers run
_TOO_FEW = 16  # an expert with fewer tokens than its inputs / 16 gets no X or H


class Group(NamedTuple):
    """Names of layers that share an input, and its "X" or "H". `too_few` says how many
    tokens reached an expert, and how many it needs, if these are more: then X or H is
    the identity, as if all inputs were equally large and independent of each other, and
    with that GPTQ and AWQ round to nearest."""

    names: list[str]
    inputs: dict[str, Tensor]
    too_few: str = ""


def groups(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    calibration: Sequence[Int[Tensor, "_ _"]],
    needs: Sequence[str],
) -> Iterator[Group]:
    """The layers that share an input, with this input, in the order of the forward
    pass. What the caller writes into the weights of a group before asking for the next
    one, the text then goes through.

    needs: 'X', the inputs (n, in) in the model's dtype, a row per token, in the order
    of the batches; 'H' = XᵀX (in, in) in float32, summed over the batches; or neither,
    and no text goes through the model.

    Raises ValueError if the model is in training mode, calls a layer more than once, or
    never; or if inputs are not finite.
    """
    if model.training:
        raise ValueError("model is in training mode; call model.eval() first")
    experts = {
        path: module
        for path, module in separated(model).items()
        if any(name.startswith(f"{path}.") for name in layers)
    }
    inside = tuple(f"{path}." for path in experts)
    stops = {n: layer for n, layer in layers.items() if not n.startswith(inside)}
    stops |= experts
    order = sharing(model, stops, calibration)
    idle = set(stops).difference(*order)
    if idle:
        raise ValueError(
            f"calibration never reaches {', '.join(sorted(idle))}; give more text, or "
            "leave it out with only="
        )
    first = {names[0]: place for place, names in enumerate(order)}
    batches = [_Batch(model, ids, first) for ids in calibration] if needs else []
    with _stopping({name: stops[name] for name in first}, batches):
        for place, names in enumerate(order):
            for batch in batches:
                batch.run_to(place)
            waiting = [batch.reads for batch in batches if batch.place == place]
            if needs and not waiting:
                raise _other_order(model, names[0])
            if names[0] in experts:
                for group in _of_experts(names[0], experts[names[0]], waiting, needs):
                    chosen = [name for name in group.names if name in layers]
                    if chosen:
                        yield group._replace(names=chosen)
            else:
                yield Group(names, _inputs(names[0], waiting, needs))
        for batch in batches:  # to the end: has none come by a stop too late?
            batch.run_to(len(order))


def _of_experts(
    path: str,
    experts: SeparateExperts,
    calls: Sequence[tuple[Float[Tensor, "_ width"], Int[Tensor, "_ k"]]],
    needs: Sequence[str],
) -> Iterator[Group]:
    """Gate and up of each expert, then its down, which reads what they make: with the
    inputs of the tokens that were sent there.

    calls: of each batch, the hidden states of all tokens, and each token's experts.
    """
    for e in range(experts.num_experts):
        names = [f"{path}.{e}.{name}" for name in experts.names]
        if not needs:
            yield Group(names[:-1], {})
            yield Group(names[-1:], {})
            continue
        X = torch.cat([states[(index == e).any(-1)] for states, index in calls])
        yield _if_enough(names[:-1], X, needs)
        yield _if_enough(names[-1:], experts.inner(e, X), needs)


def _if_enough(
    names: list[str], X: Float[Tensor, "n in"], needs: Sequence[str]
) -> Group:
    """A group that reads X, or the identity if X has too few rows."""
    n, width = X.shape
    enough = -(-width // _TOO_FEW)
    if n >= enough:
        return Group(names, _inputs(names[0], [X], needs))
    identity = torch.eye(width, dtype=X.dtype, device=X.device)
    too_few = f"{n} tokens reached it; {enough} are needed"
    return Group(names, _inputs(names[0], [identity], needs), too_few)


@torch.no_grad()
def sharing(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    calibration: Sequence[Int[Tensor, "_ _"]],
) -> list[list[str]]:
    """The names of layers, grouped by the tensor that they read, in the order in which
    they run. Layers that no token reaches are left out.

    In a Llama block these are [q, k, v], [o], [gate, up], [down]. A few tokens show it;
    all of the calibration text is read only if they do not reach some layer.

    Raises ValueError if a forward pass calls a layer more than once.
    """
    found: list[list[str]] = []
    group_of: dict[str, list[str]] = {}
    read: list[tuple[Callable, list[str]]] = []  # in this pass: tensors and groups
    seen: set[str] = set()  # in this pass

    def see(name: str, states: Any) -> None:
        """Put a layer into the group that read the same tensor, or into a new one."""
        if name in seen:
            raise ValueError(
                f"model {type(model).__name__} calls {name} more than once per batch, "
                "so what it reads depends on itself; take a method that needs no "
                "calibration, such as quantize_rtn, or leave it out with only="
            )
        seen.add(name)
        alone = isinstance(layers[name], SeparateExperts)
        same = [] if alone else [group for tensor, group in read if tensor() is states]
        if name not in group_of:
            if same:
                same[0].append(name)
            else:
                after = max((found.index(group) + 1 for _, group in read), default=0)
                found.insert(after, [name])
            group_of[name] = same[0] if same else found[after]
        tensor = (lambda: None) if alone else weakref.ref(states)
        read.append((tensor, group_of[name]))

    with watching(layers, see):
        for ids in (calibration[0][:1, :_SHORT], *calibration):
            if len(group_of) < len(layers):
                seen.clear()
                read.clear()
                run_body(model, [ids])
    return found


def _inputs(
    name: str, batches: Sequence[Float[Tensor, "... in"]], needs: Sequence[str]
) -> dict[str, Tensor]:
    """X and H, as far as they are needed, of what a layer reads."""
    rows = [states.flatten(0, -2) for states in batches]  # (batch, time, in) -> (n, in)
    for X in rows:
        if X.numel() and not torch.stack(X.aminmax()).isfinite().all():
            raise ValueError(
                f"calibration gives {name} inputs in {X.dtype} that are not finite; "
                "load the model with dtype=torch.float32"
            )
    found: dict[str, Tensor] = {}
    if "X" in needs:
        found["X"] = torch.cat(rows)
    if "H" in needs:
        H = torch.zeros(())
        for number, X in enumerate(map(Tensor.float, rows)):
            H = H.addmm_(X.T, X) if number else X.T @ X
        found["H"] = H
    return found


class _Batch(greenlet):
    """One batch on its way through the model. It moves only during `run_to`."""

    def __init__(
        self, model: nn.Module, ids: Int[Tensor, "_ _"], stops: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.model, self.ids, self.stops = model, ids, stops
        self.place = -1  # where it waits: the number of a stop; len(stops) at the end
        self.reads: Any = None  # what the layer there is about to read

    def run_to(self, place: int) -> None:
        """Run up to this stop, or to a later one if the text does not come by it."""
        while self.place < place:
            with torch.no_grad():
                self.switch()

    def run(self) -> None:
        """The forward pass; what it raises is raised in `run_to`."""
        run_body(self.model, [self.ids])
        self.place = len(self.stops)

    def wait_at(self, name: str, reads: Any) -> None:
        """Called before a layer runs: let the others go on until it is our turn."""
        if self.stops[name] < self.place:
            raise _other_order(self.model, name)
        self.place, self.reads = self.stops[name], reads
        self.parent.switch()
        self.reads = None


def _other_order(model: nn.Module, name: str) -> ValueError:
    return ValueError(
        f"model {type(model).__name__} runs {name} in another order on some texts; "
        "take a method that needs no calibration, such as quantize_rtn, or leave it "
        "out with only="
    )


@contextmanager
def _stopping(
    layers: Mapping[str, nn.Module], batches: Sequence[_Batch]
) -> Iterator[None]:
    """While this lasts, batches wait before these layers. At the end, also after an
    error or an interruption, none is left."""

    def see(name: str, reads: Any) -> None:
        """Only our own batches wait: others may run the model meanwhile."""
        batch = getcurrent()
        if batch in batches:
            batch.wait_at(name, reads)

    with watching(layers, see):
        try:
            yield
        finally:
            for batch in batches:
                batch.throw()  # GreenletExit: the rest of the model need not run


def run_body(model: nn.Module, calibration: Sequence[Int[Tensor, "_ _"]]) -> None:
    """Run all text through the model, so that hooks see it. lm_head is left out: no
    logits are needed."""
    check_batches(model, calibration)
    device = next(model.parameters()).device
    body = getattr(model, "base_model", model)
    for ids in calibration:
        body(input_ids=ids.to(device), use_cache=False)


@contextmanager
def watching(layers: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """While this lasts, `see(name, inputs)` is called before each layer runs. Experts
    read two tensors: hidden states, and the experts of each token."""

    def hook(name: str, layer: nn.Module, args: tuple, kwargs: dict) -> None:
        """Torch calls this before a layer's forward."""
        if isinstance(layer, SeparateExperts):
            see(name, args[:2])
        else:
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
