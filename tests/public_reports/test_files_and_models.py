"""What a file says and what the model is: GPTQModel#1550, AngelSlim#319, lattice#27.

A model was changed (rotated, its lm_head trained), so that lm_head is no longer the
embedding. It was stored as tied, and came back with another head, or a random one.
And the kin of it: wherever a file and a model are brought together, they are compared.
"""

import json
from functools import partial

import pytest
import torch
import transformers
from helpers import small_gguf, tiny
from safetensors.torch import load_file, save_file
from torch import nn

import minquant as mq
from minquant.files import gguf
from minquant.models import packed_model
from minquant.models.rotate_model import rotate
from minquant.training import adapter_files
from minquant.training.adapters import add_adapters_

IDS = torch.arange(4, 24)[None]
UNEQUAL = {
    "hidden_size": 96,
    "intermediate_size": 172,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def rounding(bits=8, **options):
    """Symmetric rounding as a method."""
    return partial(mq.quantize_rtn, grid=mq.symmetric_full(bits), **options)


def no_longer_tied(how, kind="Llama", **sizes):
    """A model whose lm_head was the embedding when it was made, and is not now."""
    network = tiny.model(kind, tie_word_embeddings=True, **sizes)
    if how == "rotated":
        return rotate(network)
    head = network.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.flip(0).clone(), requires_grad=False)
    return network


def logits(network):
    return network(input_ids=IDS).logits


def as_it_was(network):
    """A function that says whether a model is what it was when this was called."""
    before, shown = (
        {n: t.clone() for n, t in network.state_dict().items()},
        repr(network),
    )

    def unchanged():
        after = network.state_dict()
        same = after.keys() == before.keys() and repr(network) == shown
        return same and all(torch.equal(t, after[n]) for n, t in before.items())

    return unchanged


# --- a model that is no longer tied ---


@pytest.mark.parametrize("how", ["rotated", "trained"])
@pytest.mark.parametrize("sizes", [{}, UNEQUAL])
def test_a_model_that_is_no_longer_tied_comes_back_from_a_folder(how, sizes, tmp_path):
    pytest.importorskip("compressed_tensors", reason="transformers reads it with that")
    network = no_longer_tied(how, **sizes)
    report = mq.quantize_(network, rounding(), progress=False)
    said_before = network.config.tie_word_embeddings
    folder = mq.export(network, report, tiny.tokenizer(), tmp_path / "out")
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert stated["tie_word_embeddings"] is False
    assert network.config.tie_word_embeddings is said_before  # the model's own stays
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    )
    ours, _ = mq.load(folder, dtype=torch.float32)
    for back in (theirs, ours):
        off = (logits(back) - logits(network)).norm() / logits(network).norm()
        assert off < 3e-3  # embeddings and norms are in fp16


@pytest.mark.parametrize("how", ["rotated", "trained"])
def test_a_model_that_is_no_longer_tied_comes_back_from_gguf(how, tmp_path):
    network = small_gguf.model(tie_word_embeddings=True)
    if how == "rotated":
        network = rotate(network)
    else:
        head = network.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.flip(0).clone(), requires_grad=False)
    path = mq.export(
        network,
        mq.quantize_(network, rounding(granularity=mq.per_group(32)), progress=False),
        small_gguf.tokenizer(),
        tmp_path / "out",
        format="gguf",
    )
    assert "output.weight" in gguf.read(path / "model.gguf").tensors
    back, _ = mq.load(path / "model.gguf")
    off = (logits(back) - logits(network)).norm() / logits(network).norm()
    assert off < 0.05  # embeddings are in Q8_0


def test_a_model_that_was_tied_by_hand_is_stored_as_tied(tmp_path):
    network = tiny.model(tie_word_embeddings=False)
    network.lm_head.weight = network.model.embed_tokens.weight
    report = mq.quantize_(network, rounding(), progress=False)
    folder = mq.export(network, report, tiny.tokenizer(), tmp_path / "out")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    back, _ = mq.load(folder)
    assert back.lm_head.weight is back.model.embed_tokens.weight


@pytest.mark.parametrize("tied", [True, False])
def test_a_reader_with_other_ties_refuses_a_packed_file(tied, tmp_path):
    network = tiny.model(tie_word_embeddings=tied)
    mq.pack_(network, mq.quantize_(network, rounding(), progress=False))
    packed_model.save(network, tmp_path / "p.safetensors")
    other = tiny.model(tie_word_embeddings=not tied, seed=1)
    unchanged = as_it_was(other)
    with pytest.raises(ValueError, match="lm_head.weight is model.embed_tokens.weight"):
        packed_model.load_(other, tmp_path / "p.safetensors")
    assert unchanged()


@pytest.mark.parametrize("tied", [True, False])
def test_a_reader_with_other_ties_refuses_a_folder(tied, tmp_path):
    network = tiny.model(tie_word_embeddings=tied)
    report = mq.quantize_(network, rounding(), progress=False)
    folder = mq.export(network, report, None, tmp_path / "out")
    other = tiny.model(tie_word_embeddings=not tied, seed=1)
    unchanged = as_it_was(other)
    seen = "lm_head.weight is missing" if tied else "are one tensor in the model, and"
    with pytest.raises(ValueError, match=seen):
        mq.load_exported_(other, folder)
    assert unchanged()


def test_a_folder_that_has_a_tied_tensor_twice_is_read(tmp_path):
    network = tiny.model(tie_word_embeddings=True)
    report = mq.quantize_(network, rounding(), progress=False)
    folder = mq.export(network, report, tiny.tokenizer(), tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    back, _ = mq.load(folder)
    assert back.lm_head.weight is back.model.embed_tokens.weight


# --- a file and a model that do not fit ---


def packed(network, tmp_path):
    mq.pack_(network, mq.quantize_(network, rounding(), progress=False))
    packed_model.save(network, tmp_path / "p.safetensors")
    return partial(packed_model.load_, path=tmp_path / "p.safetensors")


def exported(network, tmp_path):
    report = mq.quantize_(network, rounding(), progress=False)
    folder = mq.export(network, report, None, tmp_path / "out")
    return partial(mq.load_exported_, folder=folder)


OTHERS = {
    "another vocabulary": (lambda: tiny.model(vocab_size=40), "embed_tokens.weight is"),
    "wider layers": (
        lambda: tiny.model(intermediate_size=64),
        r"but the layer is \(64",
    ),
    "more layers": (
        lambda: tiny.model(num_hidden_layers=3),
        "layers.2.self_attn.q_proj.weight is missing",
    ),
    "fewer layers": (
        lambda: tiny.model(num_hidden_layers=1),
        "layers.1.* has codes, but there the model has nothing",
    ),
    "biases": (lambda: tiny.model("Qwen2"), "q_proj.bias is missing"),
    "another family": (lambda: tiny.model("GPT2"), "has codes, but there the model ha"),
    "a narrower dtype": (
        lambda: tiny.model(dtype=torch.bfloat16),
        "which the model's torch.bfloat16 does not hold",
    ),
}


@pytest.mark.parametrize("write", [packed, exported])
@pytest.mark.parametrize("what", OTHERS)
def test_a_reader_refuses_what_does_not_fit_and_leaves_the_model(what, write, tmp_path):
    make, seen = OTHERS[what]
    read, other = write(tiny.model(), tmp_path), make()
    unchanged = as_it_was(other)
    with pytest.raises(ValueError, match=seen):
        read(other)
    assert unchanged()


def test_a_config_that_is_not_the_models_is_not_written(tmp_path):
    network = small_gguf.model()
    network.config.vocab_size += 8
    report = mq.quantize_(
        network, rounding(granularity=mq.per_group(32)), progress=False
    )
    for format in ("compressed-tensors", "gguf"):
        with pytest.raises(
            ValueError, match="is not what its config says: .*embed_tok"
        ):
            mq.export(
                network, report, small_gguf.tokenizer(), tmp_path / "o", format=format
            )
    assert list(tmp_path.iterdir()) == []


def test_packed_layers_that_are_not_in_the_report_are_written_as_floats(tmp_path):
    network = tiny.model()
    report = mq.quantize_(network, rounding(), progress=False)
    mq.pack_(network, report)
    some = {name: q for name, q in report.items() if "mlp" in name}
    folder = mq.export(network, some, tiny.tokenizer(), tmp_path / "out")
    back, _ = mq.load(folder, dtype=torch.float32)
    off = (logits(back) - logits(network)).norm() / logits(network).norm()
    assert off < 3e-3


def test_gpt2_is_refused_before_anything_is_written(tmp_path):
    network = tiny.model("GPT2")
    report = mq.quantize_(network, rounding(), progress=False)
    with pytest.raises(ValueError, match="no Conv1D"):
        mq.export(network, report, None, tmp_path / "out")
    mq.pack_(network, report)  # now they are QuantLinear, but not for other programs
    with pytest.raises(ValueError, match="is a Conv1D where the folder is opened; re"):
        mq.export(network, report, None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "options", "name"),
    [
        (rounding(4, granularity=mq.per_group(32)), {}, "Q4_0"),
        (partial(mq.quantize_rtn, grid=mq.absmax(8)), {}, "Q8_0"),
        (partial(mq.quantize_rtn, grid=mq.zero_point(4)), {}, "Q4_1"),
        (None, {"floats": "Q5_0"}, "Q5_0"),
        (None, {}, "F16"),
    ],
)
def test_a_gguf_file_is_called_by_the_type_of_most_matrices(
    method, options, name, tmp_path
):
    from minquant.serving.gguf_export import _FILE_TYPES, write_gguf

    network = small_gguf.model()
    report = mq.quantize_(network, method, progress=False) if method else {}
    write_gguf(network, report, small_gguf.tokenizer(), tmp_path / "m", **options)
    stated = gguf.read(tmp_path / "m").settings["general.file_type"]
    assert stated == _FILE_TYPES[name]


# --- state_dict ---

W = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def layer(grid, g=32, layout="auto", **options):
    q = mq.quantize_rtn(W, grid, mq.per_group(g), **options)
    return mq.QuantLinear(q, layout=layout)


LAYERS = {
    "4 bits": lambda: layer(mq.symmetric_full(4), layout="words"),
    "2 bits": lambda: layer(mq.symmetric_full(2), layout="words"),
    "stream": lambda: layer(mq.symmetric_full(4), layout="stream"),
    "NF4": lambda: layer(mq.NF4),
    "FP4": lambda: layer(mq.FP4),
    "groups of 16": lambda: layer(mq.NF4, 16),
    "fp32 scales": lambda: layer(mq.NF4, scale_dtype=torch.float32),
    "int8": lambda: mq.Int8Linear.quantize(W),
    "int8 at another threshold": lambda: mq.Int8Linear.quantize(W, threshold=3.0),
    "int8, bf16": lambda: mq.Int8Linear.quantize(W, outlier_weights=torch.bfloat16),
}
PAIRS = [(a, b) for a in LAYERS for b in LAYERS]


@pytest.mark.parametrize(("stored", "there"), PAIRS)
def test_a_state_dict_goes_into_layers_of_its_own_kind_alone(stored, there):
    source, target = LAYERS[stored](), LAYERS[there]()
    for buffer in target.buffers():
        buffer.zero_()
    unchanged = as_it_was(target)
    if stored == there:
        target.load_state_dict(source.state_dict())
        assert torch.equal(target.dequantize(), source.dequantize())
        return
    with pytest.raises(RuntimeError, match="stored in another form|, not torch"):
        target.load_state_dict(source.state_dict(), strict=False)
    assert unchanged()


def test_an_adapter_of_another_alpha_is_refused():
    base = nn.Linear(8, 8)
    small, large = (mq.LoraLinear(base, 2, alpha) for alpha in (4.0, 16.0))
    unchanged = as_it_was(large)
    with pytest.raises(RuntimeError, match=r'another form, \{"alpha": 4.0\}'):
        large.load_state_dict(small.state_dict())
    assert unchanged()


# --- adapters ---


def test_adapters_in_two_dtypes_are_refused_unless_one_is_asked_for(tmp_path):
    network = add_adapters_(tiny.model(), method=None, dtype=torch.bfloat16)
    adapter_files.save_adapters(network, tmp_path)
    path = tmp_path / adapter_files.WEIGHTS
    tensors = load_file(path)
    save_file({n: t.float() if "_B" in n else t for n, t in tensors.items()}, path)
    other = tiny.model()
    unchanged = as_it_was(other)
    with pytest.raises(
        ValueError, match="lora_A in torch.bfloat16 and lora_B in torch.f"
    ):
        adapter_files.load_adapters_(other, tmp_path, method=None)
    assert unchanged()
    adapter_files.load_adapters_(other, tmp_path, method=None, dtype=torch.float32)
    assert logits(other).isfinite().all()
