"""`triton` and `tl` for a notebook that writes kernels, on whatever machine it runs.

    from minquant.kernels.interpreter import tl, triton

On a GPU this is Triton as it is. Without one, kernels run in Triton's interpreter, on
the CPU: slowly, and with the same numbers. Triton decides that when it is imported, and
transformers imports it. So this import comes before a model is loaded.

Raises ImportError if triton was imported before, for a GPU that is not there.

Triton exists for Linux alone. Elsewhere a kernel can be written and read; launching it
prints that it does not run.
"""

import importlib.util
import os
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import torch

INSTALLED = importlib.util.find_spec("triton") is not None


class NotRun:
    """What `triton.jit` makes of a kernel where Triton is not installed."""

    def __init__(self, kernel: Any) -> None:
        self.name = kernel.__name__

    def __getitem__(self, grid: object) -> Any:
        """Launching: prints that nothing happens."""
        return lambda *args, **kwargs: print(
            f"{self.name} does not run: Triton is for Linux, and not installed here"
        )


if INSTALLED:
    if not torch.cuda.is_available():
        if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
            raise ImportError(
                "triton was imported before, for a GPU, and there is none; restart "
                "Python, and import minquant.kernels.interpreter first"
            )
        os.environ["TRITON_INTERPRET"] = "1"
        # of Triton 3.6's interpreter, about numpy 2
        warnings.filterwarnings("ignore", "Conversion of an array")
    import triton
    import triton.language as tl
else:
    triton = SimpleNamespace(jit=NotRun)
    tl = SimpleNamespace(constexpr=int)
