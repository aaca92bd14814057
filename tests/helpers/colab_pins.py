"""What Colab's runtime has, and what this environment has of it.

    python tests/colab_pins.py      # a table; what differs is marked

The versions stand in pyproject.toml: those that pip can be given in the extra `colab`,
those that it cannot on every machine in `tool.minquant.colab-also`.
"""

import platform
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins() -> dict[str, str]:
    """Colab's version of each package that pip can be given, by name."""
    asked = map(Requirement, PROJECT["project"]["optional-dependencies"]["colab"])
    here = (pin for pin in asked if pin.marker is None or pin.marker.evaluate())
    versions = {pin.name: str(pin.specifier) for pin in here}
    return {name: v[2:] for name, v in versions.items() if v.startswith("==")}


def beyond() -> dict[str, str]:
    """Colab's version of what another machine may not be able to install."""
    return PROJECT["tool"]["minquant"]["colab-also"]


def installed(name: str) -> str:
    """The version here, without a build's mark: 2.13.0+cpu is 2.13.0."""
    version = platform.python_version() if name == "python" else metadata.version(name)
    return version.split("+")[0]


def met(name: str, wanted: str) -> bool:
    """Whether this environment has that version: 3.13.1 is a 3.13, 3.1 is not."""
    return f"{installed(name)}.".startswith(f"{wanted}.")


def main() -> None:
    """Print the table."""
    print(f"{'':14}{'Colab':>10}{'here':>10}")
    for name, wanted in {**pins(), **beyond()}.items():
        note = "" if met(name, wanted) else "   differs"
        print(f"{name:14}{wanted:>10}{installed(name):>10}{note}")


if __name__ == "__main__":
    main()
