"""Which packages a wheel holds; all else stands in pyproject.toml."""

from setuptools import find_packages, setup

DATA = ["minquant.data.almanac", "minquant.data.smollm2"]

setup(packages=[*find_packages(include=["minquant*"]), *DATA])
