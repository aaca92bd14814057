"""What a training step keeps in memory: tensors, counted in bytes.

    weights      parameters and buffers: what the model is
    gradients    one number per trainable parameter, after the backward pass
    optimizer    Adam keeps two more
    saved        what the forward pass leaves for the backward pass

A full 16-bit fine-tune pays all of them for every weight. LoRA makes the middle two
small. QLoRA makes the first small as well, and must not pay for it in the last: a layer
that kept W in floats for its backward pass would give back all that was won. So `saved`
is counted at the source: autograd tells of each tensor that it saves, and of these the
ones count whose memory is not a parameter's or a buffer's. What two operations save
together counts once.

That is all that autograd's own operations save. An `autograd.Function` written by hand
can hang a tensor on its ctx, of which autograd knows nothing; such a one is found by
`alive`, all floats that there are, before a forward pass and after it.

Bytes of tensors are the same on every machine. What is left out is what is not: the
allocator's rounding, the workspace of matrix products, tensors that live only within
one operation. Lesson 09.
"""

import gc
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StepMemory(NamedTuple):
    """Bytes of one training step, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    saved: int

    @property
    def total(self) -> int:
        """All four."""
        return sum(self)


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors take in memory; what several views share counts once.

    >>> W = torch.zeros(4, 4)
    >>> tensor_bytes([W, W.T, W[0]])
    64
    """
    stores = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
    return sum(store.nbytes() for store in stores.values())


def alive() -> int:
    """Bytes of all tensors of floats that Python can reach, whoever holds them.

    >>> before = alive()
    >>> W = torch.zeros(4, 4)
    >>> alive() - before
    64
    """
    gc.collect()
    found = [t for t in gc.get_objects() if issubclass(type(t), Tensor)]
    floats = (t for t in found if t.is_floating_point() and not t.is_meta)
    return tensor_bytes(t for t in floats if t.layout == torch.strided)


def held(model: nn.Module) -> list[Tensor]:
    """All that a model is made of: parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


class Saved:
    """Within `with Saved(model) as saved:` notes what autograd keeps for later.

    >>> layer, X = nn.Linear(8, 4), torch.ones(16, 8, requires_grad=True)
    >>> with Saved(layer) as saved:
    ...     Y = layer(X).relu()
    >>> saved.nbytes  # X for the gradient of W, and Y for relu's; W is the layer's own
    768
    """

    def __init__(self, model: nn.Module) -> None:
        self.tensors: list[Tensor] = []
        self._model = model
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda t: t)

    def _note(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor.detach())  # the same memory, without its history
        return tensor

    def __enter__(self) -> "Saved":
        self._hooks.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._hooks.__exit__(*problem)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept beside the model's own."""
        own = {t.untyped_storage().data_ptr() for t in held(self._model)}
        beside = (t for t in self.tensors if t.untyped_storage().data_ptr() not in own)
        return tensor_bytes(beside)


def step_memory(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Float[Tensor, ""]],
) -> StepMemory:
    """Takes one training step, and counts what it keeps. The model is trained by it.

    loss: a forward pass; it is called once. Gradients are counted before they are let
    go of, and the optimizer's state after its step.
    """
    optimizer.zero_grad()
    with Saved(model) as saved:
        value = loss()
    kept = saved.nbytes  # now: after the backward pass it is gone
    del saved
    value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    spent = tensor_bytes(gradients)
    optimizer.step()
    optimizer.zero_grad()
    state = [
        value
        for per_parameter in optimizer.state.values()
        for value in per_parameter.values()
        if isinstance(value, Tensor) and value.ndim
    ]
    return StepMemory(tensor_bytes(held(model)), spent, tensor_bytes(state), kept)
