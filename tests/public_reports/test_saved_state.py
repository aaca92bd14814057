"""State that is saved is all of the state: what goes on is the same run, to the bit.

OpenTau#185     fp32 masters are lost when a 16-bit run is saved and resumed
"""

import copy
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file, save_file
from torch import nn

from minquant.numerics.grids import TERNARY, absmax
from minquant.training import adapter_files, adapters, checkpoint, finetune, qat

ROOT = Path(__file__).parents[2]
WIDE = {"hidden_size": 64, "intermediate_size": 64}
DROPOUT = {"attention_dropout": 0.3}


def lesson(n=5, seed=0):
    """Batches of random ids; all that follows the first half is asked for."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(n):
        ids = torch.randint(4, 30, (2, 12), generator=generator)
        labels = ids.clone()
        labels[:, :6] = -100
        batches.append((ids, labels))
    return batches


def student(way="full", dtype=torch.bfloat16, **options):
    """A new student; its model draws dropout from torch's generator."""
    torch.manual_seed(3)
    return finetune.prepared(tiny.model(**WIDE, **DROPOUT), way, dtype=dtype, **options)


def content(model):
    """Every tensor of a model."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    """Whether two dicts hold the same tensors, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def moved(weights=1, steps=30):
    """A 16-bit weight, trained by steps that 16 bits cannot hold."""
    W = nn.Parameter(torch.ones(weights).bfloat16())
    adam = finetune.MasterAdam([W], lr=1e-4)
    for _ in range(steps):
        W.grad = torch.ones_like(W)
        adam.step()
    return W, adam


@pytest.mark.parametrize("how", ["state_dict", "torch.save", "deepcopy", "pickle"])
def test_masters_are_in_what_is_saved_opentau_185(how, tmp_path):
    W, adam = moved()
    if how in ("state_dict", "torch.save"):
        state = copy.deepcopy(adam.state_dict())
        if how == "torch.save":
            torch.save(state, tmp_path / "adam.pt")
            state = torch.load(tmp_path / "adam.pt", weights_only=True)
        V = nn.Parameter(W.detach().clone())
        again = finetune.MasterAdam([V], lr=1e-4)
        again.load_state_dict(state)
    else:
        make = copy.deepcopy if how == "deepcopy" else copied_by_pickle
        again = make(adam)
        (V,) = again.weights
    assert torch.equal(again.masters[0], adam.masters[0])
    assert again.masters[0].data_ptr() != adam.masters[0].data_ptr()
    assert again.state[again.masters[0]]["master"] is again.masters[0]
    for _ in range(30):
        for p, optimizer in ((W, adam), (V, again)):
            p.grad = torch.ones_like(p)
            optimizer.step()
    assert torch.equal(again.masters[0], adam.masters[0])
    assert torch.equal(V, W) and W.item() < 0.9961


def copied_by_pickle(adam):
    """A copy by way of pickle."""
    return pickle.loads(pickle.dumps(adam))


def test_a_master_that_has_not_moved_is_saved_too():
    start = torch.tensor([1.0, 3.0]).bfloat16()
    still, moving = (nn.Parameter(start.clone()) for _ in range(2))
    adam = finetune.MasterAdam([still, moving], lr=0.1)
    moving.grad = torch.ones_like(moving)
    adam.step()
    state = copy.deepcopy(adam.state_dict())
    late = [nn.Parameter(torch.zeros(2).bfloat16()) for _ in range(2)]
    again = finetune.MasterAdam(late, lr=0.1)
    for p, W in zip(late, (still, moving), strict=True):
        p.data.copy_(W)  # the weights come after the optimizer was made
    again.load_state_dict(state)
    for weights, optimizer in (((still, moving), adam), (late, again)):
        for W in weights:
            W.grad = torch.ones_like(W)
        optimizer.step()
    assert torch.equal(late[0], still) and torch.equal(late[1], moving)
    assert (start - still > 0.05).all()


def test_a_state_without_the_masters_is_refused():
    _, adam = moved(2)
    plain = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    for other in (plain, moved(1)[1]):
        with pytest.raises(
            ValueError, match=r"has no master \(2,\) of weight 0; give t"
        ):
            adam.load_state_dict(other.state_dict())


RUNS = [
    ("full", torch.bfloat16),
    ("full", torch.float32),
    ("lora", torch.bfloat16),
    ("qlora", torch.bfloat16),
]


@pytest.mark.parametrize(("way", "dtype"), RUNS)
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_run_goes_on_to_the_bit_wherever_it_stopped(
    way, dtype, after, tmp_path, monkeypatch
):
    expected = student(way, dtype)
    losses = finetune.train_(expected, lesson())
    file, real = tmp_path / "folder" / "run.safetensors", finetune.batch_loss
    calls = []

    def fails(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(finetune, "batch_loss", fails)
    if after < 5:
        with pytest.raises(KeyboardInterrupt):
            finetune.train_(student(way, dtype), lesson(), checkpoint=file, every=1)
    else:
        finetune.train_(student(way, dtype), lesson(), checkpoint=file, every=1)
    taken = []
    monkeypatch.setattr(finetune, "batch_loss", lambda *a: taken.append(a) or real(*a))
    again = student(way, dtype)
    torch.rand(7)  # other numbers were drawn meanwhile
    if not after:
        torch.manual_seed(3)  # nothing was kept, so this is the start
        again = student(way, dtype)
    assert finetune.train_(again, lesson(), checkpoint=file, every=1) == losses
    assert len(taken) == 5 - after
    assert same(content(again.model), content(expected.model))
    a, b = (s.optimizer.state_dict()["state"] for s in (again, expected))
    assert a.keys() == b.keys() and all(same(a[i], b[i]) for i in a)
    assert [f.name for f in file.parent.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize("moment", ["before", "half", "after"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_kill_while_the_file_is_written_loses_at_most_what_it_would_have_kept(
    moment, write, tmp_path, monkeypatch
):
    expected = student()
    losses = finetune.train_(expected, lesson())
    file, writes = tmp_path / "run.safetensors", []

    def killed(tensors, path, header):
        writes.append(path)
        if len(writes) < write:
            return save_file(tensors, path, header)
        if moment == "half":
            save_file(tensors, path, header)
            os.truncate(path, os.path.getsize(path) // 2)
        elif moment == "after":
            save_file(tensors, path, header)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", killed)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # nothing tidies up
    with pytest.raises(KeyboardInterrupt):
        finetune.train_(student(), lesson(), checkpoint=file, every=2)
    monkeypatch.undo()
    if write == 1:
        assert not file.exists()
    else:
        assert len(load_file(file)["losses"]) == 2 * (write - 1)
    again = student()
    assert finetune.train_(again, lesson(), checkpoint=file, every=2) == losses
    assert same(content(again.model), content(expected.model))
    assert list(tmp_path.iterdir()) == [file]


CHILD = """
import os, signal, sys
sys.path[:0] = ["tests", "tests/public_reports"]
from test_saved_state import finetune, lesson, qat, student, tiny
from minquant.training import checkpoint
replace, count = os.replace, [0]
def killed(*paths):
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = killed
if sys.argv[2] == "finetune":
    finetune.train_(student(), lesson(), checkpoint=sys.argv[1], every=1)
else:
    ids = [ids for ids, _ in lesson()]
    qat.train(tiny.model(), ids, checkpoint=sys.argv[1], every=1)
"""


@pytest.mark.parametrize("what", ["finetune", "qat"])
def test_a_process_that_is_killed_goes_on_in_another(what, tmp_path):
    file = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", CHILD, str(file), what]
    path = os.pathsep.join(str(ROOT / part) for part in (".", "tests"))
    environment = os.environ | {"PYTHONPATH": path}
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert len(load_file(file)["losses"]) == 2
    if what == "finetune":
        expected, again = student(), student()
        losses = finetune.train_(expected, lesson())
        torch.manual_seed(0)
        assert finetune.train_(again, lesson(), checkpoint=file) == losses
    else:
        ids = [ids for ids, _ in lesson()]
        expected = qat.train(tiny.model(), ids, progress=False)
        again = qat.train(tiny.model(), ids, progress=False, checkpoint=file)
        assert again.losses == expected.losses
    assert same(content(again.model), content(expected.model))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("teacher", [True, False])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_training_on_a_grid_goes_on_to_the_bit(after, teacher, tmp_path, monkeypatch):
    ids, network = [ids for ids, _ in lesson()], tiny.model(**DROPOUT)
    network.train()
    options = {"teacher": teacher, "progress": False}
    torch.manual_seed(3)
    expected = qat.train(network, ids, **options)
    file, real, calls = tmp_path / "run.safetensors", qat._loss, []

    def fails(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(qat, "_loss", fails)
    torch.manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        qat.train(network, ids, **options, checkpoint=file, every=1)
    monkeypatch.undo()
    torch.manual_seed(0 if after else 3)
    again = qat.train(network, ids, **options, checkpoint=file, every=1)
    assert again.losses == expected.losses
    assert same(content(again.model), content(expected.model))
    for name, quantized in again.report.items():
        assert torch.equal(quantized.codes, expected.report[name].codes)
    taken = qat.train(network, ids, **options, checkpoint=file)  # it is done already
    assert same(content(taken.model), content(expected.model))


def test_a_file_of_another_run_is_refused_and_nothing_is_trained(tmp_path):
    file = tmp_path / "run.safetensors"
    finetune.train_(student("lora"), lesson(), checkpoint=file)
    kept = file.read_bytes()
    others = {
        "another seed": (student("lora", seed=1), lesson()),
        "another rate": (student("lora", rate=1e-4), lesson()),
        "another alpha": (student("lora", alpha=4.0), lesson()),
        "another way": (student("full"), lesson()),
        "other dtypes": (student("lora", torch.float32), lesson()),
        "other texts": (student("lora"), lesson(seed=1)),
        "another order": (student("lora"), lesson()[::-1]),
        "more texts": (student("lora"), lesson(6)),
    }
    other = tiny.model(**WIDE, attention_dropout=0.1)
    others["another dropout"] = finetune.prepared(other, "lora"), lesson()
    trained = student("lora")
    finetune.train_(trained, lesson())
    others["a student that has learnt"] = trained, lesson()
    for what, (other, batches) in others.items():
        before = content(other.model)
        with pytest.raises(
            ValueError, match="is of another run; prepare the model anew"
        ):
            finetune.train_(other, batches, checkpoint=file)
        assert same(content(other.model), before), what
    ids = [ids for ids, _ in lesson()]
    network, file = tiny.model(), tmp_path / "qat.safetensors"
    qat.train(network, ids, progress=False, checkpoint=file)
    for options in ({"grid": absmax(2)}, {"rate": 1e-3}, {"teacher": False}):
        options = {"grid": TERNARY, **options}
        with pytest.raises(ValueError, match="qat.safetensors is of another run"):
            qat.train(network, ids, progress=False, checkpoint=file, **options)
    assert (tmp_path / "run.safetensors").read_bytes() == kept


def test_what_is_no_checkpoint_is_refused_with_what_to_do(tmp_path):
    file = tmp_path / "run.safetensors"
    for spoiled in (b"", b"pickle" * 40):
        file.write_bytes(spoiled)
        with pytest.raises(ValueError, match="cannot be read .*; name a new file"):
            finetune.train_(student(), lesson(), checkpoint=file)
        assert file.read_bytes() == spoiled
    save_file({"x": torch.ones(1)}, file)
    with pytest.raises(ValueError, match="is of another run"):
        finetune.train_(student(), lesson(), checkpoint=file)
    with pytest.raises(ValueError, match="every is 0; choose 1 step or more"):
        finetune.train_(student(), lesson(), every=0)


def test_a_fingerprint_differs_wherever_something_differs():
    x = torch.arange(4.0)
    contents = [
        [x], [x, x], [[x], x], [x + 1], [x.half()], [x.reshape(2, 2)], {"x": x},
        {"y": x}, [1], ["1"], [1, 2], [[1], 2], [True], [x[:0]], [],
    ]  # fmt: skip
    prints = [checkpoint.fingerprint(content) for content in contents]
    assert len(set(prints)) == len(contents)
    assert prints == [checkpoint.fingerprint(copy.deepcopy(c)) for c in contents]


@pytest.mark.parametrize(
    ("moment", "left"),
    [("save_file", "old"), (1, "none"), (2, "none"), (3, "new")],
)
def test_adapters_over_adapters_are_old_or_new_or_refused_but_never_a_mixture(
    moment, left, tmp_path, monkeypatch
):
    old, new = student("lora").model, student("lora", alpha=4.0, seed=1).model
    adapter_files.save_adapters(old, tmp_path)
    real, calls = os.replace, []

    def killed(*paths):
        calls.append(paths)
        if len(calls) == moment:
            raise KeyboardInterrupt
        real(*paths)

    def killed_at_once(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    if moment == "save_file":
        monkeypatch.setattr(adapter_files, "save_file", killed_at_once)
    if left == "new":
        adapter_files.save_adapters(new, tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            adapter_files.save_adapters(new, tmp_path)
    monkeypatch.undo()
    files = sorted(f.name for f in tmp_path.iterdir())
    bare = tiny.model(**WIDE, **DROPOUT).bfloat16()
    if left == "none":
        assert files == [adapter_files.WEIGHTS]
        with pytest.raises(ValueError, match="has no adapter_config.json"):
            adapter_files.load_adapters_(bare, tmp_path, method=None)
    else:
        assert files == [adapter_files.CONFIG, adapter_files.WEIGHTS]
        found = adapter_files.load_adapters_(bare, tmp_path, method=None)
        model = {"old": old, "new": new}[left]
        assert same(content(found), content(model))
        alphas = [
            [layer.alpha for layer in adapters.adapters(m).values()]
            for m in (found, model)
        ]
        assert alphas[0] == alphas[1]
