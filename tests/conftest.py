"""Where there is no GPU the kernels run in Triton's interpreter, and triton asks for
that when it is first imported: so it is said here, before any test is."""

import os

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
settings.register_profile("untimed", deadline=None)  # speed lives in benchmarks
settings.load_profile("untimed")
collect_ignore = ["aot.py"]  # a process of its own, without the interpreter


def pytest_configure(config):
    """The interpreter of Triton 3.6, Colab's, reads a loop's end in a way that numpy
    warns about; 3.7 does not."""
    said = "Conversion of an array with ndim > 0 to a scalar"
    warning = f"ignore:{said}:DeprecationWarning:triton.runtime.interpreter"
    config.addinivalue_line("filterwarnings", warning)
