"""A model is loaded from a folder or the bundle, offline, and its code is not run.
Whatever is wrong with a folder is said, and nothing is made up."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings

import pytest
import torch
import transformers
from helpers import tiny
from safetensors.torch import load_file, save_file

import minquant as mq
from minquant import almanac
from minquant.layers.linear import QuantLinear
from minquant.models.linear_layers import decoder_blocks
from minquant.models.load import load
from minquant.models.packed_model import coded_layers
from minquant.models.text import generate

UNEQUAL = {  # no width is a multiple of another, and k and v are narrower than q
    "hidden_size": 96,
    "intermediate_size": 172,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
IDS = torch.arange(4, 24)[None]


def saved(folder, kind="Llama", *, shards="5GB", dtype=torch.bfloat16, **changes):
    """A tiny model in a folder, as Hugging Face saves it."""
    network = tiny.model(kind, dtype=dtype, **changes)
    network.save_pretrained(folder, max_shard_size=shards)
    tiny.tokenizer().save_pretrained(folder)
    return network


def changed_json(path, **changes):
    """Entries of a JSON file changed; None takes one out."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(content), encoding="utf-8")


def changed_weights(folder, change):
    """The tensors of a folder changed in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def folder(tmp_path):
    """A folder with a tiny Llama in bf16."""
    saved(tmp_path, **UNEQUAL)
    return tmp_path


# --- what is opened ---


def test_a_local_folder_loads_without_gradients_or_dropout(folder):
    network, tokenizer = load(folder, dtype=torch.float16)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert {p.dtype for p in network.parameters()} == {torch.float16}
    assert tokenizer("a b")["input_ids"] == [1, 4, 5, 2]
    assert network.name_or_path == str(folder)


@pytest.mark.parametrize("shards", ["5GB", "40KB"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_come_as_they_are_stored(shards, tied, tmp_path):
    made = saved(tmp_path, shards=shards, tie_word_embeddings=tied, **UNEQUAL)
    assert (tmp_path / "model.safetensors").exists() == (shards == "5GB")
    network, _ = load(str(tmp_path))
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    state = network.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in made.state_dict().items())


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_every_family_is_opened(kind, tmp_path):
    made = saved(tmp_path, kind, dtype=torch.float32)
    assert torch.equal(load(tmp_path)[0](IDS).logits, made(IDS).logits)


def test_a_name_may_be_relative_to_home_or_of_any_letters(tmp_path, monkeypatch):
    place = tmp_path / "Modèle 量子 (4 bits)"
    made = saved(place)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(place)
    for name in (place, f"~/{place.name}", "."):
        network, _ = load(name)
        assert torch.equal(network(IDS).logits, made(IDS).logits)


# --- what is refused: one error for each cause, with the place ---


def without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def quantized_by(**said):
    return lambda folder: changed_json(folder / "config.json", quantization_config=said)


def config(**changes):
    return lambda folder: changed_json(folder / "config.json", **changes)


def weights(change):
    return lambda folder: changed_weights(folder, change)


UP = "model.layers.0.mlp.up_proj.weight"
FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True}
CAUSES = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json, so it"),
    "an adapter": (
        lambda f: (f / "config.json").rename(f / "adapter_config.json"),
        "holds an adapter and no model; load its base",
    ),
    "config cut off": (
        lambda f: (f / "config.json").write_text("{", encoding="utf-8"),
        "a config.json that is no JSON",
    ),
    "no tokenizer": (without_tokenizer, r"has no tokenizer \(no tokenizer.json\)"),
    "tokenizer cut off": (
        lambda f: (f / "tokenizer.json").write_text("{", encoding="utf-8"),
        "a tokenizer that does not open: ",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no weights: nei"),
    "pickles": (pickled, "its weights as pytorch_model.bin alone, a format that can r"),
    "cut off": (cut_off, r"model.safetensors is no sound safetensors file \("),
    "missing": (weights(lambda t: t.pop(UP)), f"its config .*: {UP} is missing. Copy"),
    "left over": (
        weights(lambda t: t.update({"score.weight": torch.ones(2)})),
        "the model has no score.weight",
    ),
    "misshapen": (
        weights(lambda t: t.update({UP: t[UP][:-1].clone()})),
        rf"{UP} is \(171, 96\), but the config asks for \(172, 96\)",
    ),
    "vocabulary": (config(vocab_size=40), r"is \(32, 96\), but the config asks for \("),
    "float8": (
        weights(lambda t: t.update({UP: t[UP].to(torch.float8_e4m3fn)})),
        f"has {UP} in F8_E4M3, which is not read here",
    ),
    "gptq": (
        quantized_by(quant_method="gptq", bits=4),
        "is quantized already, by gptq",
    ),
    "awq": (quantized_by(quant_method="awq", bits=4), "is quantized already, by awq"),
    "bitsandbytes": (
        quantized_by(quant_method="bitsandbytes", load_in_4bit=True),
        "by bitsandbytes. .* take the model that it was made from",
    ),
    "mxfp4": (
        quantized_by(quant_method="mxfp4"),
        "is quantized already, by mxfp4",
    ),
    "fp8": (
        quantized_by(quant_method="fp8"),
        "is quantized already, by fp8",
    ),
    "old gptq": (
        lambda f: (f / "quantize_config.json").write_text("{}", encoding="utf-8"),
        r"by another program \(quantize_config.json\)",
    ),
    "compressed-tensors in float8": (
        quantized_by(
            quant_method="compressed-tensors",
            format="float-quantized",
            config_groups={"group_0": {"targets": ["Linear"], "weights": FLOAT8}},
        ),
        "by compressed-tensors: .*float-quantized.*only compressed-tensors pack-quant",
    ),
    "code of its own": (
        config(model_type="trapped", auto_map={"AutoConfig": "trap.Config"}),
        r"'trapped' and brings code of its own \(trap.Config\), which is not run here",
    ),
    "unknown": (config(model_type="newest"), "is of type 'newest', which this version"),
    "an encoder": (
        config(model_type="bert", architectures=["BertForMaskedLM"]),
        "is BertForMaskedLM, no causal language model; take one",
    ),
    "encoder and decoder": (
        config(model_type="t5", architectures=["T5ForConditionalGeneration"]),
        "is T5ForConditionalGeneration, which has an encoder and a decoder",
    ),
    "pictures": (
        config(model_type="llava", architectures=["LlavaForConditionalGeneration"]),
        "is LlavaForConditionalGeneration, a multimodal model around a language",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_is_wrong_with_a_folder_is_said(cause, folder):
    change, message = CAUSES[cause]
    change(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, of configs of old models
        with pytest.raises(ValueError, match=message) as caught:
            load(folder)
    assert str(caught.value).startswith(f"name {str(folder)!r} ")


def test_a_shard_that_is_missing_or_cut_off_is_named(tmp_path):
    saved(tmp_path, shards="40KB", **UNEQUAL)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{shard.name} is no sound safetensors file"):
        load(tmp_path)
    shard.unlink()
    with pytest.raises(ValueError, match=f"lacks 1 of .* the first {shard.name}; copy"):
        load(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(folder):
    (folder / "trap.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    changed_json(folder / "config.json", auto_map={"AutoConfig": "trap.Config"})
    network, _ = load(folder)  # transformers knows Llama without it
    assert type(network).__module__.startswith("transformers.")


@pytest.mark.parametrize("name", ["/no/such/folder", "~/none/of/it", "a b", "x/y/z"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(name):
    with pytest.raises(ValueError, match="is no folder .*, nor a hub id"):
        load(name)


# --- the hub ---


def offline(name, **environment):
    """What load says in another process, and after how many seconds."""
    run = f"import minquant; minquant.load({name!r})"
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", run],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1
    return done.stderr.strip(), time.monotonic() - before


@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}],
)
def test_without_the_hub_the_error_names_the_cache_and_the_bundled_model(
    environment, tmp_path
):
    said, _ = offline("someone/some-model", HF_HOME=str(tmp_path), **environment)
    assert "ValueError: name 'someone/some-model' gives no model, neither as" in said
    assert str(tmp_path / "hub") in said
    assert "load('almanac')" in said


def test_a_model_in_the_cache_is_opened_without_the_hub(folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    place = home / "hub" / "models--someone--tiny"
    shutil.copytree(folder, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc", encoding="utf-8")
    run = "import minquant; m, _ = minquant.load('someone/tiny'); print(m.name_or_path)"
    environment = {"HF_HOME": str(home), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", run],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout.strip() == "someone/tiny", done.stderr


# --- an exported folder ---


@pytest.fixture
def exported(folder, tmp_path_factory):
    """The folder's model in 4 bits, and where it was exported to."""
    network, tokenizer = load(folder)
    network = network.half()
    report = mq.quantize_(
        network,
        lambda W: mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(4)),
        progress=False,
    )
    place = tmp_path_factory.mktemp("served") / "out"
    return network, mq.export(network, report, tokenizer, place)


def test_an_exported_folder_opens_into_packed_layers(exported):
    network, place = exported
    opened, tokenizer = load(place)
    layers = coded_layers(opened)
    assert len(layers) == 14
    assert all(type(layer) is QuantLinear for layer in layers.values())
    assert {p.dtype for p in opened.parameters()} == {torch.float16}
    assert tokenizer("a b")["input_ids"] == [1, 4, 5]
    in_fp32, _ = load(place, dtype=torch.float32)
    ours, expected = in_fp32(IDS).logits, network.float()(IDS).logits
    assert (ours - expected).norm() < 3e-3 * expected.norm()  # W_hat was stored in fp16
    scales = {layer.scales.dtype for layer in coded_layers(in_fp32).values()}
    assert scales == {torch.float16}  # a scale that is cast is another scale
    assert not hasattr(opened.config, "quantization_config")


def test_a_slow_dtype_on_a_cpu_is_said(tmp_path):
    network = tiny.model(hidden_size=128, intermediate_size=128, dtype=torch.float16)
    report = mq.quantize_(
        network,
        lambda W: mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(32)),
        progress=False,
    )
    place = mq.export(network, report, tiny.tokenizer(), tmp_path / "out")
    with pytest.warns(UserWarning, match="in torch.float16, .* give dtype=torch.bfloa"):
        load(place)
    for dtype in (torch.bfloat16, torch.float16):
        assert load(place, dtype=dtype)[0].dtype == dtype  # without a word


MEASURE = """
import re, sys, warnings
import transformers, torch, safetensors.torch, huggingface_hub
import minquant as mq
from minquant.models import packed_folder, load
warnings.simplefilter("ignore")
transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM

def peak():
    status = open("/proc/self/status").read()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])

before = peak()
mq.load(sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_an_exported_folder_never_takes_the_memory_of_its_floats(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=tiny.SIZE["vocab_size"],
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=6,
        num_attention_heads=8,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = transformers.LlamaForCausalLM(config).half().requires_grad_(False)
    report = mq.quantize_(
        network,
        lambda W: mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(128)),
        progress=False,
    )
    place = mq.export(network, report, tiny.tokenizer(), tmp_path / "out")
    size = (place / "model.safetensors").stat().st_size
    one_matrix = 4 * 1024 * 4096  # in fp32
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(place)],
        env={
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed is free, without holes
        },
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    grown = int(done.stdout)
    assert size < 55e6 and grown < size + 3 * one_matrix, (size, grown)


# --- the bundled model ---


def test_importing_the_package_brings_no_transformers():
    run = "import sys, minquant, minquant.models.load; "
    run += "sys.exit('transformers' in sys.modules)"
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", run], env=env).returncode == 0


@pytest.mark.skipif(
    not (almanac.DIRECTORY / "model.safetensors").exists(),
    reason="data/almanac has no trained model yet",
)
def test_the_bundled_model_loads_by_default_and_goes_on_with_a_text():
    network, tokenizer = load()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    document = almanac.documents("test", 1)[0]
    text = generate(network, tokenizer, " ".join(document.words[:20]), 5)
    assert text == generate(network, tokenizer, " ".join(document.words[:20]), 5)
    assert 0 < len(text.split()) <= 5
    assert len(decoder_blocks(network)) == network.config.num_hidden_layers
