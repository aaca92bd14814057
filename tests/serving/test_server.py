"""A folder is served, answers as the model does, and stops with its block."""

import urllib.error
import urllib.request

import pytest
import torch
from helpers import tiny

from minquant.methods import rtn
from minquant.models import quantize
from minquant.models.packed_folder import load_exported_
from minquant.models.text import generate
from minquant.numerics.grids import symmetric_full
from minquant.numerics.groups import per_group
from minquant.serving import server
from minquant.serving.export import export

needs_all = pytest.mark.skipif(
    bool(server.missing()), reason=f"without {', '.join(server.missing())}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of 4 bits, exported."""

    def method(W):
        return rtn.quantize_rtn(W, symmetric_full(4), per_group(16))

    made, report = quantize.quantize(tiny.model(), method, progress=False)
    where = tmp_path_factory.mktemp("served") / "out"
    return export(made, report, tiny.tokenizer(), where)


@needs_all
def test_a_served_folder_answers_as_the_model_does_and_stops_with_the_block(folder):
    import openai

    how = {"prompt": "a b c", "max_tokens": 6, "temperature": 0}
    with (
        server.serve(folder, dtype="float32") as url,
        openai.OpenAI(base_url=url, api_key="none") as client,
    ):
        said = client.completions.create(model=str(folder), **how).choices[0].text
    loaded = load_exported_(tiny.model(seed=1), folder)
    expected = generate(loaded, tiny.tokenizer(), "a b c", max_new_tokens=6)
    assert said.split() == expected.split()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url.replace("/v1", "/health"), timeout=2)


@needs_all
def test_a_server_that_does_not_start_says_why(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with (
        pytest.raises(RuntimeError, match="it ended with 1, and said: "),
        server.serve(broken, seconds=60),
    ):
        pytest.fail("it started")


def test_what_cannot_be_served_is_named_with_what_to_do(tmp_path, monkeypatch):
    with (
        pytest.raises(ValueError, match="no config.json; give what mq.export wrote"),
        server.serve(tmp_path),
    ):
        pytest.fail("it started")
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(server, "NEEDS", ("torch", "no_such_package"))
    assert server.missing() == ["no-such-package"]
    with (
        pytest.raises(ValueError, match="pip install no-such-package"),
        server.serve(tmp_path),
    ):
        pytest.fail("it started")


def test_torch_is_there():
    assert torch.__name__ not in server.missing()
