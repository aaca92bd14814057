"""What an import costs and brings, and what an installed copy holds."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers.colab_pins import ROOT

from benchmarks import import_time

HEAVY = {"triton", "transformers", "huggingface_hub", "ipywidgets", "anywidget"}
HEAVY |= {"IPython"}
FILES = sorted((ROOT / "minquant").rglob("*.py"))
OWNERS = ("minquant.kernels.triton_kernels", "minquant.kernels.interpreter")
OWNERS += ("minquant.course.live",)
LIVE = re.compile(r"\.(widget|live)_|\.pictures$")  # modules that show controls
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
]


def brings(*modules):
    """The heavy packages in memory after these imports, in a fresh interpreter."""
    said = "import json, sys\n" + "".join(f"import {name}\n" for name in modules)
    said += "print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=ROOT, capture_output=True, check=True
    )
    return HEAVY & set(json.loads(done.stdout))


def test_the_package_alone_brings_nothing_heavy():
    assert brings("minquant") == set()


def test_no_module_brings_what_only_its_owner_needs():
    """`load` imports transformers when it is called, not before."""
    light = [n for n in MODULES if not (n.startswith(OWNERS) or LIVE.search(n))]
    assert len(light) > 100
    assert brings(*light) <= brings("torch")


def test_a_heavy_package_would_be_seen():
    assert "IPython" in brings("minquant", "IPython")


def test_the_benchmark_measures_an_import():
    took = import_time.medians(["pass", "import time; time.sleep(0.2)"], times=1)
    assert took["pass"] < 0.2 <= took["import time; time.sleep(0.2)"]


@pytest.mark.parametrize(
    ("torch", "ours", "judged"),
    [(2.0, 2.29, True), (2.0, 2.31, False), (2.0, 1.9, True)],
)
def test_the_benchmark_allows_three_tenths_of_a_second_over_torch(torch, ours, judged):
    assert import_time.within(torch, ours) is judged


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """What pip would install, unpacked: built from copies, so no old file gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("minquant", "data"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    build += ["--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [*build, "."], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("minquant-*.whl")
    zipfile.ZipFile(made).extractall(folder / "site")
    return folder / "site"


def test_an_installed_copy_has_every_module(wheel):
    installed = sorted((wheel / "minquant").rglob("*.py"))
    for script in ("almanac/train.py", "smollm2/sample.py"):
        installed.remove(wheel / "minquant/data" / script)
    assert [p.relative_to(wheel) for p in installed] == [
        path.relative_to(ROOT) for path in FILES
    ]


def test_an_installed_copy_has_what_the_live_pictures_are_made_of(wheel):
    made = [p for end in ("js", "css") for p in (ROOT / "minquant").rglob(f"*.{end}")]
    assert len(made) > 2
    for path in made:
        assert (wheel / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_an_installed_copy_has_the_model_and_finds_it(wheel):
    files = {"config.json", "model.safetensors", "tokenizer.json"}
    assert files <= {path.name for path in (wheel / "minquant/data/almanac").iterdir()}
    ask = "from minquant import almanac; print(almanac.DIRECTORY)"
    ask += "; from minquant.measure.measured import TABLE; print(TABLE)"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, "PYTHONPATH": str(wheel)},
        cwd=wheel,
        capture_output=True,
        text=True,
        check=True,
    )
    places = [wheel / "minquant/data/almanac"]
    places += [wheel / "minquant/data/smollm2/measured.json"]
    assert done.stdout.split() == [str(place) for place in places]
    assert all(place.exists() for place in places)
