"""What has to be said before any test is imported.

Where there is no GPU the kernels run in Triton's interpreter, and triton asks for that
when it is first imported. Shapes are types ("out in"), and the tests check them on
every call of the package; not in the almanac, which has no tensors and calls short
functions by the million.
"""

import os
import tempfile
from pathlib import Path

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

PACKAGE = Path(__file__).resolve().parents[1] / "minquant"
ROOMS = sorted(place.parent.name for place in PACKAGE.glob("*/__init__.py"))
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook([f"minquant.{r}" for r in ROOMS if r != "almanac"], CHECKER)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# Exercises that pass here are no learner's progress.
os.environ["MINQUANT_PROGRESS"] = os.path.join(tempfile.mkdtemp(), "progress.json")
settings.register_profile("untimed", deadline=None)  # speed lives in benchmarks
settings.load_profile("untimed")
collect_ignore = ["helpers/aot.py", "helpers/core.py"]  # processes of their own


def pytest_configure(config):
    """The interpreter of Triton 3.6, Colab's, reads a loop's end in a way that numpy
    warns about; 3.7 does not."""
    said = "Conversion of an array with ndim > 0 to a scalar"
    warning = f"ignore:{said}:DeprecationWarning:triton.runtime.interpreter"
    config.addinivalue_line("filterwarnings", warning)
