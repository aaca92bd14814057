"""What is declared once and stands elsewhere: conda's list, locks, Colab's versions."""

import re
import subprocess
import sys

import pytest
import yaml
from helpers.colab_pins import PROJECT, ROOT, met, pins
from packaging.requirements import Requirement

ENVIRONMENT = (ROOT / "environment.yml").read_text()
CONDA = {  # where conda-forge calls a package otherwise than PyPI does
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
}
COLAB = sys.prefix.endswith(".venv-colab")


def plain(line):
    """A requirement as name, range and marker, in one spelling."""
    asked = Requirement(line)
    return asked.name.lower(), str(asked.specifier), str(asked.marker or "")


def declared():
    """What a learner needs, as pyproject.toml says it: the package and the course."""
    project = PROJECT["project"]
    course = project["optional-dependencies"]["course"]
    return [plain(line) for line in [*project["dependencies"], *course]]


def repeated():
    """conda's packages and pip's, as environment.yml says it; python, pip, us apart."""
    lines = yaml.safe_load(ENVIRONMENT)["dependencies"]
    (inner,) = (line["pip"] for line in lines if isinstance(line, dict))
    conda = [line for line in lines if isinstance(line, str)]
    assert conda[:2] == [f"python {PROJECT['project']['requires-python']}", "pip"]
    assert inner[-1] == "-e ."
    return [plain(line) for line in conda[2:]], [plain(line) for line in inner[:-1]]


def locked(name):
    """The versions of a lock file, by name."""
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_conda_gets_what_pip_gets():
    conda, pip = repeated()
    wanted = {(CONDA.get(name, name), *rest) for name, *rest in declared()}
    assert {*conda, *pip} == wanted
    assert len(conda) + len(pip) == len(wanted)


def test_what_only_one_system_has_is_left_to_pip():
    conda, pip = repeated()
    assert [name for name, _, marker in conda if marker] == []
    assert all(marker for _, _, marker in pip)


def test_every_dependency_names_the_lessons_that_need_it():
    asked = len(declared()) + len(["-e ."])
    said = re.findall(r"^ +- \S+.*  # (.*)$", ENVIRONMENT, re.MULTILINE)
    assert (
        len([words for words in said if re.search(r"\b(0\d|1[0-2])\b", words)]) == asked
    )


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-colab.lock"])
def test_a_lock_holds_a_version_in_range_for_all_that_is_declared(lock):
    versions, project = locked(lock), PROJECT["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["test"], *extras["real"]]:
        asked = Requirement(line)
        found = versions[asked.name.lower().replace("_", "-")]
        assert asked.specifier.contains(found), f"{lock}: {asked.name} {found}"


def test_colabs_lock_holds_colabs_versions():
    versions = locked("requirements-colab.lock")
    assert {name: versions[name] for name in pins()} == pins()
    for asked in map(Requirement, PROJECT["project"]["optional-dependencies"]["colab"]):
        assert asked.specifier.contains(versions[asked.name]), asked.name


@pytest.mark.skipif(not COLAB, reason="make test-colab: only .venv-colab is like Colab")
def test_where_the_tests_run_as_on_colab_the_versions_are_colabs():
    assert [name for name, wanted in pins().items() if not met(name, wanted)] == []


# --- what is installed is the whole of it ---


def test_all_that_the_package_is_made_of_is_in_the_repository():
    """A folder that exists on one machine only is missing in every clone."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--", "minquant", "data"]
    tracked = subprocess.run(listed, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to it")
    files = tracked.stdout.splitlines()
    folders = PROJECT["tool"]["setuptools"]["package-dir"].values()
    for folder in ["minquant", *folders]:
        assert any(file.startswith(f"{folder}/") for file in files), folder
