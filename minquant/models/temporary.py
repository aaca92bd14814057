"""Other methods for a module, for as long as a `with` block lasts, and in no copy.

    def twice(module, forward, *args, **kwargs):
        return 2 * forward(*args, **kwargs)

    with changed(layer, forward=twice):
        layer(X)                            # 2 · X Wᵀ
        copy.deepcopy(layer)(X)             # X Wᵀ, inside the block and after it

The usual way, `layer.forward = partial(twice, layer, ...)`, leaks. A deep copy of the
model takes this attribute along, so the copy calls a function that is bound to the
layer it was copied from. It computes with the weights of the original for ever,
whatever is done to its own (huggingface/accelerate#1835).

Here the module gets another class while the block lasts: a child of its own class that
has the new methods. Methods are bound when they are called, so nothing is bound to an
instance. What copies or pickles the module is told that it is of its own class.

A change belongs to the module, not to a thread: whoever calls the module inside the
block sees it. A module can be changed once at a time.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from types import MethodType
from typing import Any

from torch import nn

_ENTERING = Lock()  # two threads must not change one module at the same time


class _Changed:
    """The class of a module inside a block has this as its first base, and as its
    second the class that the module has outside."""

    def __reduce_ex__(self, protocol: int) -> tuple:
        """What `copy` and `pickle` ask for: how to make this object again. (Protocols
        above 1 insist on the class that the object has now.)"""
        make, (cls, *more), *rest = super().__reduce_ex__(1)
        return make, (cls.__bases__[1], *more), *rest


@contextmanager
def changed(module: nn.Module, **methods: Callable) -> Iterator[None]:
    """While this lasts, the module has other methods.

    methods: by the name of the method that each replaces. It is called with the module,
    the method that it replaces (bound to the module), and the arguments of the call.

    Raises ValueError if the module is changed already, if an attribute of the module
    hides a method, or if its class copies itself in its own way.
    """
    inside = None
    try:
        with _ENTERING:
            _check(module, methods)
            outside = type(module)
            inside = _class_with(outside, methods)
            module.__class__ = inside
        yield
    finally:
        if inside is not None:
            module.__class__ = outside


def _class_with(cls: type, methods: Mapping[str, Callable]) -> type:
    """A child of the class, by the same name, with these methods."""
    members = {name: _method(getattr(cls, name), m) for name, m in methods.items()}
    for name in ("__module__", "__qualname__", "__doc__"):
        members[name] = getattr(cls, name)
    return type(cls.__name__, (_Changed, cls), members)


def _method(original: Callable, replacement: Callable) -> Callable:
    @wraps(original)
    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Calls the replacement."""
        return replacement(self, MethodType(original, self), *args, **kwargs)

    return method


def _check(module: nn.Module, methods: Mapping[str, Callable]) -> None:
    """Raises ValueError if the methods would not take effect, or reach a copy."""
    name = type(module).__name__
    if isinstance(module, _Changed):
        raise ValueError(
            f"this {name} is inside a `with` block that changes it already; leave that "
            "block first"
        )
    if hidden := [method for method in methods if method in vars(module)]:
        raise ValueError(
            f"this {name} has a {hidden[0]} of its own, which hides the one of its "
            "class, as accelerate's hooks do; take it off first "
            "(accelerate.hooks.remove_hook_from_module)"
        )
    if hasattr(module, "__deepcopy__"):
        raise ValueError(
            f"this {name} copies itself in its own way, as parametrized modules do, so "
            "a copy would keep the change; remove its parametrizations first"
        )


def by_name(
    forward: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by their names, however they were given.

    Raises TypeError, as the call would, for arguments that `forward` does not take.

    >>> by_name(nn.Linear(2, 3).forward, ["X"], {})
    {'input': 'X'}
    """
    signature = inspect.signature(forward)
    signature.bind(*args, **kwargs)
    return dict(zip(signature.parameters, args, strict=False)) | dict(kwargs)
