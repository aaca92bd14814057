"""From a model to a folder for others: what is in it, what it says, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import small_gguf, tiny
from helpers.fixture import as_learners_have_it

import minquant as mq
from minquant import almanac
from minquant.__main__ import main
from minquant.models.text import sample
from minquant.serving import compress as module
from minquant.serving.compress import compress

TEXTS = [*tiny.texts_of("calibration", 24), *tiny.texts_of("test", 12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in a folder, as transformers saves it. Each head has its own values."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model(num_key_value_heads=4, intermediate_size=64).save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def for_gguf(tmp_path_factory):
    """A model with a byte-pair tokenizer, in a folder."""
    place = tmp_path_factory.mktemp("models") / "pairs"
    small_gguf.model().save_pretrained(place)
    small_gguf.tokenizer().save_pretrained(place)
    return place


def call(model, out, **options):
    """compress without a bar."""
    return compress(model, out=out, **{"text": TEXTS, "progress": False, **options})


# --- what is written ---


@pytest.mark.parametrize("method", ["gptq", "awq", "rtn"])
def test_a_folder_holds_the_model_and_a_page_about_it(method, folder, tmp_path):
    done = call(folder, tmp_path / "out", method=method)
    assert done.folder == tmp_path / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (done.folder / "README.md").read_text("utf-8") == done.card
    config = json.loads((done.folder / "config.json").read_text("utf-8"))
    weights = config["quantization_config"]["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"]) == (4, 32)
    small = mq.load_exported_(mq.load(folder)[0], done.folder)
    original, tokenizer = mq.load(folder)
    test = [t for t in TEXTS if almanac.split_of(t) == "test"]
    kl = mq.kl_and_flips(original, small, tokenizer, test, progress=False).kl
    assert kl == pytest.approx(
        done.harms["KL divergence, nats per token"].mean, rel=0.02
    )


def test_the_page_counts_its_own_documents_and_names_its_method(folder, tmp_path):
    page = call(folder, tmp_path / "a").card
    assert "GPTQ, the columns with the largest inputs first" in page
    assert "18 documents of the text that was given (" in page  # and 6 for damping
    assert page.count("| 12 documents of the text that was given (") == 3
    page = call(folder, tmp_path / "b", method="rtn", text=TEXTS[8:]).card
    assert "RTN: round to nearest" in page and "calibrated on" not in page
    page = call(folder, tmp_path / "c", method="awq", text=TEXTS[8:]).card
    assert "**method**: AWQ" in page and "16 documents of the text" in page


@pytest.mark.parametrize("better", module.DAMPINGS)
def test_the_damping_that_moves_predictions_less_is_taken(
    better, folder, tmp_path, monkeypatch
):
    tried = []

    def kl(original, small, tokenizer, texts, progress):
        tried.append(texts)
        return 0.1 if module.DAMPINGS[len(tried) - 1] == better else 0.2

    monkeypatch.setattr(module, "_kl", kl)
    done = call(folder, tmp_path / "a")
    assert f"{better}, of 0.01 and 0.1 the one with less KL on 6 more doc" in done.card
    assert tried[0] == tried[1] == module._halves(TEXTS, "")[0][:6]
    asked_for = call(folder, tmp_path / "b", damping=better)
    assert f"{better}, as asked for" in asked_for.card
    assert "on 24 documents" not in done.card and "24 documents" in asked_for.card


def test_a_file_for_llama_cpp(for_gguf, tmp_path):
    text = [f"{t} {small_gguf.TEXT}" for t in TEXTS]
    done = call(for_gguf, tmp_path / "out", format="gguf", text=text, method="rtn")
    assert sorted(p.name for p in done.folder.iterdir()) == ["README.md", "model.gguf"]
    small, _ = mq.load(done.folder / "model.gguf")
    W = mq.weight_of(
        mq.linear_layers(mq.load(for_gguf)[0])["model.layers.0.mlp.up_proj"]
    )
    q = mq.quantize_rtn(W, mq.signed(4), mq.per_group(32))
    there = mq.weight_of(mq.linear_layers(small)["model.layers.0.mlp.up_proj"])
    assert torch.equal(there, q.dequantize())


# --- text ---


def test_text_is_halved_by_fingerprints_and_its_order_does_not_matter():
    texts = [f"{t} {i}" for i, t in enumerate(TEXTS * 20)]
    fit, judge = module._halves(texts, "")
    assert not set(fit) & set(judge)
    assert "test" not in map(almanac.split_of, fit)
    assert "calibration" not in map(almanac.split_of, judge)
    assert module._halves(texts[::-1] + texts[:9], "") == (fit, judge)
    assert (len(fit), len(judge)) == (module.CALIBRATE, module.JUDGE)


def test_a_text_file_will_do_and_too_little_text_will_not(folder, tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\n\n".join(" ".join([t] * 40) for t in TEXTS), encoding="utf-8")
    page = call(folder, tmp_path / "out", text=file, method="rtn").card
    assert "documents of words.txt (" in page
    with pytest.raises(ValueError, match="text has 6 different documents"):
        call(folder, tmp_path / "new", text=TEXTS[:6])
    assert not (tmp_path / "new").exists()


def test_a_model_without_text_writes_its_own(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LENGTH", 40)
    done = call(folder, tmp_path / "out", text=None)
    assert done.card.count("that the model wrote itself, at temperature 1 (") == 4
    assert "- any text but its own\n" in done.card


def test_what_a_model_writes_is_as_likely_as_it_says():
    scores = torch.full((34,), -30.0)
    scores[[4, 5]] = torch.tensor([0.75, 0.25]).log()
    texts = sample(tiny.Fixed(scores), tiny.tokenizer(), 40, 60, progress=False)
    words = " ".join(texts).split()
    assert len(texts) == 40 and set(words) == {"a", "b"}
    assert words.count("a") / len(words) == pytest.approx(0.75, abs=0.03)
    again = sample(tiny.Fixed(scores), tiny.tokenizer(), 40, 60, progress=False)
    other = sample(tiny.Fixed(scores), tiny.tokenizer(), 40, 60, seed=1, progress=False)
    assert texts == again != other


def test_a_text_goes_on_from_what_was_written():
    model = tiny.model()
    (text,) = sample(model, tiny.tokenizer(), 1, 30, progress=False)
    ids = torch.tensor([[1, *tiny.tokenizer().convert_tokens_to_ids(text.split())]])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        p = model(input_ids=ids[:, :-1]).logits.softmax(-1)  # without a cache
    drawn = [step[None].multinomial(1, generator=generator).item() for step in p[0]]
    assert drawn == ids[0, 1:].tolist()
    with pytest.raises(ValueError, match="length is 64; the model reads 64 tokens"):
        sample(model, tiny.tokenizer(), 1, 64)


# --- what is refused, before anything is quantized ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "nf4"}, "method is 'nf4', whose codes neither format stores"),
        ({"method": "gtpq"}, "method is 'gtpq'; choose gptq, awq, rtn"),
        ({"bits": 3}, "3 bits in groups of 32 cannot be written as compressed-tensors"),
        ({"bits": 17}, "17"),
        ({"group_size": 48}, "group_size 48 does not divide in_features 32"),
        ({"group_size": 0}, "group_size is 0"),
        ({"format": "gguf"}, "tokenizer is of the kind WordLevel"),
        ({"format": "onnx"}, 'format is .onnx.; choose "compressed-tensors" or "gguf"'),
        ({"method": "rtn", "damping": 0.1}, "damping is 0.1, but rtn has none"),
        ({"damping": -0.1}, "damping is -0.1; choose 0 or more"),
        ({"format": "gguf", "dtype": torch.bfloat16}, "GGUF's scales are float16"),
        ({"text": ["a b", *TEXTS[:5]]}, "text has 6 different documents"),
    ],
)
def test_what_cannot_be_is_said_at_once(options, words, folder, tmp_path, monkeypatch):
    def quantize(*_, **__):
        raise AssertionError("too late")

    monkeypatch.setattr(module, "quantize", quantize)
    with as_learners_have_it(), pytest.raises(ValueError, match=words):
        call(folder, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_awq_needs_a_layer_that_takes_its_scales(tmp_path):
    tiny.model("GPT2").save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ValueError, match=r"fc2, and no layer of this model can take"):
        module._check_foldable(tiny.model("OPT", activation_function="gelu"))


def test_an_existing_folder_is_left_alone(folder, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="exists; give the name of a new folder"):
        call(folder, tmp_path / "out")


def test_group_sizes_by_default():
    assert module._group_size(tiny.model(intermediate_size=64), "gguf") == 32
    assert module._group_size(tiny.model(intermediate_size=64), "x") == 32
    wide = tiny.model(hidden_size=64, intermediate_size=192)
    assert module._group_size(wide, "compressed-tensors") == 64
    with pytest.raises(ValueError, match=r"divides the rows .* \[32, 48\] weights"):
        module._group_size(tiny.model(), "compressed-tensors")


# --- the command ---


def test_the_command_prints_the_page(folder, tmp_path, capsys):
    file = tmp_path / "words.txt"
    file.write_text("\n\n".join(" ".join([t] * 40) for t in TEXTS), encoding="utf-8")
    given = [str(folder), "--method", "rtn", "--bits", "8", "--text", str(file)]
    assert main([*given, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# tiny, 8 bits\n")
    assert printed.endswith(f"written: {tmp_path / 'out'}\n")
    assert (tmp_path / "out/model.safetensors").is_file()


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["almanac"],
        ["almanac", "--out", "x", "--fromat", "gguf"],
        ["almanac", "--out", "x", "--format", "onnx"],
        ["almanac", "--out", "x", "--bits", "four"],
        ["almanac", "--out", "x", "--bits", "3"],
        ["almanac", "--out", "x", "--format", "gguf"],
        ["almanac", "--out", "x", "--method", "nf4"],
        ["almanac", "--out", "x", "--text", "no.txt"],
        ["almanac", "--out", "."],
        ["no/such/model", "--out", "x"],
    ],
)
def test_bad_input_is_one_line_and_status_2(given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with as_learners_have_it(), pytest.raises(SystemExit) as stopped:
        main(given)
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == ""
    lines = [line for line in printed.err.splitlines() if "Loading weights" not in line]
    (line,) = filter(None, lines)
    assert line.startswith("minquant: ") and len(line) > 30
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_torch():
    ask = "import sys; from minquant.__main__ import parser; parser().format_help(); "
    ask += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout == "False\n"
