"""How many bytes of tensors live at the same time? Counted, not asked of the system.

    with LiveBytes(known=model.parameters()) as live:
        work()
    live.peak

Counted are the tensors that operations return meanwhile: each memory once, until the
last tensor on it is freed. Memory of `known` tensors is not counted.
"""

import weakref
from collections import Counter

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """now, peak: bytes."""

    def __init__(self, known=()):
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.holders = Counter()  # tensors on each memory
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and not leaf.is_meta:
                self._add(leaf)
        return made

    def _add(self, tensor):
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self.known:
            return
        self.now += 0 if self.holders[place] else size
        self.peak = max(self.peak, self.now)
        self.holders[place] += 1
        weakref.finalize(tensor, self._drop, place, size).atexit = False

    def _drop(self, place, size):
        self.holders[place] -= 1
        self.now -= 0 if self.holders[place] else size
