"""What a training step keeps in memory: tensors, counted in bytes.

    weights      parameters and buffers: what the model is
    gradients    one number per trainable parameter, after the backward pass
    optimizer    Adam keeps two more
    saved        what the forward pass leaves for the backward pass

Full fine-tuning in 16 bits pays all four for every weight. LoRA makes gradients and
optimizer small. QLoRA makes the weights small as well, and must not lose that again in
`saved`: a layer that kept W in floats for its backward pass would need as much memory
as before. So `saved` is counted at the source. Autograd tells us of each tensor that it
saves, and we count those whose memory is not a parameter's or a buffer's, each once.

This covers autograd's own operations. An `autograd.Function` written by hand can put a
tensor on its ctx without autograd knowing. To find such a tensor, compare `alive`, the
bytes of all float tensors, before and after a forward pass.

Bytes of tensors are the same on every machine. What differs is left out: the rounding
of the allocator, the workspace of matrix products, tensors that live only within one
operation. Lesson 09.
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
        """All four together."""
        return sum(self)


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors take in memory; memory that several share counts once.

    >>> W = torch.zeros(4, 4)
    >>> tensor_bytes([W, W.T, W[0]])
    64
    """
    stores = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
    return sum(store.nbytes() for store in stores.values())


def alive() -> int:
    """Bytes of all float tensors that exist in this Python process.

    >>> before = alive()
    >>> W = torch.zeros(4, 4)
    >>> alive() - before
    64
    """
    gc.collect()
    tensors = [t for t in gc.get_objects() if issubclass(type(t), Tensor)]
    floats = (t for t in tensors if t.is_floating_point() and not t.is_meta)
    return tensor_bytes(t for t in floats if t.layout == torch.strided)


def _own_tensors(model: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a model."""
    return [*model.parameters(), *model.buffers()]


class Saved:
    """Counts what autograd saves for the backward pass, inside a `with` block.

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
        """Bytes of saved tensors that are not parameters or buffers of the model."""
        own = {t.untyped_storage().data_ptr() for t in _own_tensors(self._model)}
        others = (t for t in self.tensors if t.untyped_storage().data_ptr() not in own)
        return tensor_bytes(others)


def step_memory(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Float[Tensor, ""]],
) -> StepMemory:
    """Takes one training step, and counts the bytes that it keeps. The model changes.

    loss: does a forward pass; it is called once. Gradients are counted before they are
    freed, and the optimizer's state after its step.
    """
    optimizer.zero_grad()
    with Saved(model) as saved:
        value = loss()
    saved_bytes = saved.nbytes  # before the backward pass, which frees it
    del saved
    value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    gradient_bytes = tensor_bytes(gradients)
    del gradients
    optimizer.step()
    optimizer.zero_grad()
    state = [
        tensor
        for per_parameter in optimizer.state.values()
        for tensor in per_parameter.values()
        if isinstance(tensor, Tensor) and tensor.ndim
    ]
    weight_bytes = tensor_bytes(_own_tensors(model))
    return StepMemory(weight_bytes, gradient_bytes, tensor_bytes(state), saved_bytes)
