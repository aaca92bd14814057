"""Which packages a wheel holds; all else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["minquant*"]), "minquant.data.almanac"])
