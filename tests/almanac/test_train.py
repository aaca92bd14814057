"""The script that made the bundled model: it stops, goes on, and strangers load it."""

import importlib.util
import itertools
import json
import math
import re
import shlex
from pathlib import Path

import pytest
import torch
import transformers
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from minquant.almanac import language
from minquant.almanac.lexicon import HEADINGS, PLACEMENTS, QUESTIONS, WORDS

SCRIPT = Path(__file__).resolve().parents[2] / "data/almanac/train.py"
SETTING = (
    "--tokens 2e4 --batch 2 --lr 0.02 --width 32 --inner 32 --layers 1 --heads 2 "
    "--head 16 --seed 3 --device cpu"
)
STEPS = 25  # 20,000 tokens in batches of 2 documents of 415


def loaded():
    spec = importlib.util.spec_from_file_location("train_the_almanac", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = loaded()
IDS = train.tokenizer().get_vocab()
EVEN = [1.0, 1.0, 1.0, 1.0]


def run(folder, *more):
    """A whole run into a folder; no random state of the tests is touched."""
    words = [*SETTING.split(), "--out", str(folder), *more]
    given = train.arguments([*words, "--threads", str(torch.get_num_threads())])
    with torch.random.fork_rng():
        train.train(given)


@pytest.fixture(scope="module", autouse=True)
def soon_warm():
    """So few steps warm up in two, read one batch that is short, and save each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "WARM_UP", 2)
        patch.setattr(train, "SHORT", ((4, 1),))
        patch.setattr(train, "SAVE_EVERY", -1)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What an uninterrupted run leaves."""
    place = tmp_path_factory.mktemp("model")
    run(place)
    return place


def model_of(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


# --- the run ---


def test_a_run_leaves_a_model_a_tokenizer_and_how_they_were_made(folder):
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("after", [1, 13, STEPS - 4])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    after, folder, tmp_path, monkeypatch
):
    batches, save, read = train.batches, train.save, []

    def stopped(*given):
        yield from itertools.islice(batches(*given), after)
        raise KeyboardInterrupt

    def counted(*given):
        for batch in batches(*given):
            read.append(batch)
            yield batch

    def now_and_then(place, model, adam, state):
        if state["step"] % 5 == 0:
            save(place, model, adam, state)

    with monkeypatch.context() as patch:
        patch.setattr(train, "save", now_and_then)
        patch.setattr(train, "batches", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    left = ["checkpoint.safetensors"] if after >= 5 else []
    assert [path.name for path in tmp_path.iterdir()] == left
    monkeypatch.setattr(train, "batches", counted)
    run(tmp_path)
    assert len(read) == STEPS - after // 5 * 5  # what came after the save is lost
    ours, theirs = (load_file(f / "model.safetensors") for f in (tmp_path, folder))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_kill_in_the_midst_of_saving_leaves_the_checkpoint_before(
    tmp_path, monkeypatch
):
    model, place = torch.nn.Linear(2, 2), tmp_path / "checkpoint.safetensors"
    adam = torch.optim.AdamW(model.parameters())
    train.save(place, model, adam, {"step": 1})
    before = place.read_bytes()

    def killed(tensors, path, metadata):
        path.write_bytes(b"half a")
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        train.save(place, model, adam, {"step": 2})
    assert place.read_bytes() == before
    assert train.load(place, model, adam) == {"step": 1}


def test_where_there_is_no_checkpoint_a_run_starts_anew(tmp_path):
    assert train.load(tmp_path / "checkpoint.safetensors", None, None) is None


def test_it_learns(folder):
    rows = re.findall(
        r"^\| (\d+) \| ([\d.]+) \|$", (folder / "README.md").read_text(), re.M
    )
    losses = [float(nats) for _, nats in rows]
    assert [int(step) for step, _ in rows] == list(range(1, STEPS + 1))
    assert losses[0] == pytest.approx(math.log(len(IDS)), abs=0.2)  # knows nothing
    assert losses[-1] < losses[0] - 0.5 and losses == sorted(losses, reverse=True)


def test_the_readme_says_how_many_tokens_and_the_command(folder):
    text = (folder / "README.md").read_text()
    parameters = sum(p.numel() for p in model_of(folder).parameters())
    assert f"{parameters:,} parameters" in text
    assert f"{STEPS * 2 * 415 / 1e6:.3g} million tokens" in text
    assert f"torch {torch.__version__}" in text and "fp32" in text


@pytest.mark.parametrize("switches", ["", "--bf16", "--compile --bf16"])
def test_the_command_of_the_readme_is_the_one_that_was_given(switches, tmp_path):
    given = train.arguments(
        [*SETTING.split(), *switches.split(), "--out", str(tmp_path)]
    )
    with torch.random.fork_rng():
        model = train.network(given, IDS)
    state = {"step": 1, "seconds": 1.0, "losses": []}
    state["sittings"] = [[0, train.command(given)]]
    train.export(given, model, train.tokenizer(), state)
    command = re.search(
        r"\| 0 \| `python data/almanac/train.py (.+)` \|",
        (tmp_path / "README.md").read_text(),
    )
    again = vars(train.arguments(shlex.split(command[1])))
    here = ("out", "device", "threads")  # where it runs is not what it makes
    assert {k: v for k, v in again.items() if k not in here} == {
        k: v for k, v in vars(given).items() if k not in here
    }


# --- what a stranger gets ---


def test_a_stranger_loads_the_model_without_our_attention(folder, monkeypatch):
    known = transformers.AttentionInterface._global_mapping
    monkeypatch.delitem(known, "float")  # as where train.py was never imported
    model = model_of(folder)
    assert type(model) is transformers.LlamaForCausalLM
    assert "float" not in known and model.config._attn_implementation == "sdpa"
    assert "attn" not in (folder / "config.json").read_text()
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


def test_the_attention_of_training_is_that_of_transformers(folder):
    model = model_of(folder)
    (ids,) = itertools.islice(train.batches(IDS, 2, EVEN, 9, 1), 1)
    said = {}
    for way in ("float", "sdpa", "eager"):
        model.set_attn_implementation(way)
        with torch.no_grad():
            said[way] = model(input_ids=ids).logits
    for way in ("sdpa", "eager"):
        torch.testing.assert_close(said["float"], said[way], rtol=1e-5, atol=1e-5)


def test_attention_stays_in_float32_where_the_rest_is_halved():
    q, k, v = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = train.attention(None, q, k, v, None)
    scores = (q @ k.mT / math.sqrt(8)).masked_fill(
        torch.ones(5, 5).triu(1) > 0, -math.inf
    )
    assert out.dtype == torch.float32 and out.shape == (1, 5, 2, 8)
    torch.testing.assert_close(out, (scores.softmax(-1) @ v).transpose(1, 2))


@pytest.mark.parametrize("kind", language.KINDS)
def test_the_tokenizer_gives_back_each_text_and_puts_bos_and_eos_around_it(
    kind, folder
):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for document in language.documents("calibration", 3, kind=kind):
        ids = tokenizer(document.text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == document.text
        marked = [language.BOS, *document.words, language.EOS]
        assert tokenizer.convert_ids_to_tokens(ids) == marked
        spaced = tokenizer(" ".join(document.words))["input_ids"]
        assert spaced == ids  # stops may stand alone or not


def test_ids_are_places_in_the_vocabulary_and_the_marks_are_known(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = language.vocabulary()
    assert tokenizer.convert_ids_to_tokens(range(len(words))) == words
    assert len(tokenizer) == len(words) == model_of(folder).config.vocab_size
    marks = tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token
    assert marks == (language.PAD, language.BOS, language.EOS)
    assert tokenizer.model_max_length == language.CONTEXT


# --- its parts ---


def test_the_learning_rate_rises_in_the_warm_up_and_ends_at_zero():
    assert train.learning_rate(1, 10_000, 3.0) == 0
    assert train.learning_rate(0, 10_000, 3.0) == 3.0 / train.WARM_UP
    assert train.learning_rate(0.5, 10_000, 3.0) == pytest.approx(1.5)
    assert train.learning_rate(0.25, 10_000, 3.0) == pytest.approx(
        3 * (2 + math.sqrt(2)) / 4
    )


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 1))
def test_after_the_warm_up_the_learning_rate_only_falls(a, b, peak):
    early, late = sorted((a, b))
    assert 0 <= train.learning_rate(late, 10_000, peak) <= peak
    if early * 10_000 + 1 >= train.WARM_UP:
        first, second = (train.learning_rate(s, 10_000, peak) for s in (early, late))
        assert second <= first


def test_short_inventories_come_first_whole_and_grow(monkeypatch):
    monkeypatch.setattr(train, "SHORT", ((2, 2), (9, 1)))
    first = [*itertools.islice(train.batches(IDS, 3, EVEN, 5, 0), 4)]
    assert [tuple(b.shape) for b in first[:3]] == [(54, 30), (54, 30), (12, 121)]
    assert first[3].shape == (3, train.LENGTH)
    things = torch.tensor([IDS[word] for word in WORDS["thing"]])
    for rows, n in zip(first, (2, 2, 9), strict=False):
        assert (torch.isin(rows, things).sum(1) == 2 * n).all()  # put away, asked for
        assert (rows == IDS[language.EOS]).any(1).all()  # none is cut
    longest = max(len(t.split()) for t in PLACEMENTS) + max(
        len(t.split()) for t in QUESTIONS
    )
    assert longest == train.LONGEST_ASKED


def test_batches_are_the_documents_as_the_tokenizer_reads_them():
    tokenizer = train.tokenizer()
    only = [0.0, 0.0, 1.0, 0.0]  # ledgers alone
    rows = torch.cat([*itertools.islice(train.batches(IDS, 3, only, 5, 1), 2)])
    assert rows.shape == (6, train.LENGTH)
    ledgers = language.documents("train", 6, seed=5, kind="ledger")
    for row, document in zip(rows, ledgers, strict=True):
        ids = tokenizer(document.text)["input_ids"]
        assert row[: len(ids)].tolist() == ids
        assert (row[len(ids) :] == IDS[language.PAD]).all()


def test_each_kind_comes_as_often_as_its_share():
    shares = [0.0, 1.0, 0.0, 3.0]
    rows = torch.cat([*itertools.islice(train.batches(IDS, 40, shares, 0, 1), 5)])
    headings = [rows[:, 1].eq(IDS[h.split()[0]]).sum() for h in HEADINGS.values()]
    assert headings[0] == headings[2] == 0 and sum(headings) == 200
    assert 110 < headings[3] < 190  # 150, within seven standard deviations


def test_batches_go_on_where_they_were_left():
    whole = [*itertools.islice(train.batches(IDS, 2, EVEN, 0, 0), 5)]
    rest = [*itertools.islice(train.batches(IDS, 2, EVEN, 0, 3), 2)]
    assert torch.equal(torch.stack(whole[3:]), torch.stack(rest))


def test_a_document_longer_than_a_row_is_cut(monkeypatch):
    monkeypatch.setattr(train, "LENGTH", 100)
    (rows,) = itertools.islice(train.batches(IDS, 2, EVEN, 0, 1), 1)
    assert rows.shape == (2, 100) and (rows != IDS[language.PAD]).all()


def test_rows_are_as_long_as_documents_are():
    kinds = dict(zip(language.KINDS, train.SHARES, strict=True))
    read = {kind: language.documents("train", 100, kind=kind) for kind in kinds}
    lengths = {kind: [len(d.words) + 2 for d in read[kind]] for kind in kinds}
    assert max(map(max, lengths.values())) <= train.LENGTH <= language.CONTEXT
    mean = sum(kinds[kind] * sum(lengths[kind]) / 100 for kind in kinds) - 1
    assert mean == pytest.approx(train.MEAN_LENGTH, rel=0.01)


def test_the_loss_of_one_who_guesses_is_the_logarithm_of_the_words():
    ids = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 7, 2, 0, 0, 0]])
    k = tiny.SIZE["vocab_size"]
    loss = train.loss_of(tiny.Fixed(torch.zeros(k)), ids, 0)
    assert loss.item() == pytest.approx(math.log(k))


def test_padding_costs_nothing_and_every_token_counts_once(folder):
    """The mean over tokens of a padded batch is that of its documents, one by one."""
    a, b = [1, 5, 6, 7, 9, 2], [1, 8, 2]
    model = tiny.model("Llama", num_key_value_heads=4)
    model.set_attn_implementation("float")  # `folder` has registered it
    together = train.loss_of(model, torch.tensor([a, [*b, 0, 0, 0]]), 0)
    alone = [
        train.loss_of(model, torch.tensor([row]), 0) * (len(row) - 1) for row in (a, b)
    ]
    assert together.item() == pytest.approx(sum(alone).item() / 7, rel=1e-5)
