"""A model is loaded from a folder or the bundle, offline, and its code is not run."""

import subprocess
import sys

import pytest
import torch
from helpers import tiny

from minquant import almanac
from minquant.models.linear_layers import decoder_blocks
from minquant.models.load import load
from minquant.models.text import generate


@pytest.fixture
def folder(tmp_path):
    """A tiny model in a folder, as Hugging Face saves it."""
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_local_folder_loads_without_gradients_or_dropout(folder):
    network, tokenizer = load(folder, dtype=torch.bfloat16)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert tokenizer("a b")["input_ids"] == [1, 4, 5, 2]
    again, _ = load(str(folder))
    assert torch.equal(again.lm_head.weight, tiny.model().lm_head.weight)


def test_a_folder_with_pickles_alone_is_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save(tiny.model().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="gives no model with safetensors"):
        load(folder)


def test_code_that_comes_with_a_model_is_not_run(folder):
    (folder / "trap.py").write_text("raise SystemExit('ran')")
    config = (folder / "config.json").read_text()
    trap = '{"auto_map": {"AutoConfig": "trap.Config"}, "model_type": "trapped",'
    (folder / "config.json").write_text(
        config.replace("{", trap, 1).replace('"llama"', '"x"')
    )
    with pytest.raises(ValueError, match="gives no model"):
        load(folder)


def test_offline_the_error_names_the_cache_and_the_bundled_model(tmp_path):
    run = "import minquant; minquant.load('someone/some-model')"
    done = subprocess.run(
        [sys.executable, "-c", run],
        env={
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": ":".join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.strip()
    assert "ValueError: name 'someone/some-model' gives no model" in last
    assert str(tmp_path / "hub") in last
    assert "load('almanac')" in last


def test_importing_the_package_brings_no_transformers():
    run = "import sys, minquant, minquant.models.load; "
    run += "sys.exit('transformers' in sys.modules)"
    env = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", run], env=env).returncode == 0


@pytest.mark.skipif(
    not (almanac.DIRECTORY / "model.safetensors").exists(),
    reason="data/almanac has no trained model yet",
)
def test_the_bundled_model_loads_by_default_and_goes_on_with_a_text():
    network, tokenizer = load()
    document = almanac.documents("test", 1)[0]
    text = generate(network, tokenizer, " ".join(document.words[:20]), 5)
    assert text == generate(network, tokenizer, " ".join(document.words[:20]), 5)
    assert 0 < len(text.split()) <= 5
    assert len(decoder_blocks(network)) == network.config.num_hidden_layers
