"""Three ways to teach a model: what is trained, what stays, and masters in fp32."""

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.models.packed_model import coded_layers
from minquant.planning.memory import step_memory
from minquant.training import finetune, loop
from minquant.training.adapters import adapters, base_bytes


def lesson(n=30):
    """Batches of random ids, of which the last of each row is asked for."""
    ids = torch.randint(4, 30, (2, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, -100)
    labels[:, -1] = ids[:, -1]
    return [(ids, labels)] * n


@pytest.fixture(scope="module")
def original():
    return tiny.model(head_dim=16, hidden_size=64, intermediate_size=64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", finetune.WAYS)
def test_each_way_learns_and_leaves_the_original_as_it_was(original, way, dtype):
    before = {name: p.clone() for name, p in original.named_parameters()}
    student = finetune.prepared(original, way, dtype=dtype, rate=1e-2)
    losses = finetune.train_(student, lesson())
    assert len(losses) == 30 and losses[-1] < 0.3 * losses[0]
    assert not student.model.training
    assert all(torch.equal(p, before[n]) for n, p in original.named_parameters())


def test_full_trains_everything_and_the_others_only_a_and_b(original):
    learnt = {}
    for way in finetune.WAYS:
        model = finetune.prepared(original, way, rank=2).model
        learnt[way] = {n for n, p in model.named_parameters() if p.requires_grad}
        if way != "full":
            assert len(learnt[way]) == 2 * len(adapters(model))
            assert all(name.endswith((".A", ".B")) for name in learnt[way])
    assert learnt["full"] == {name for name, _ in original.named_parameters()}
    assert learnt["lora"] == learnt["qlora"]


def test_codes_are_the_same_bytes_after_training(original):
    student = finetune.prepared(original, "qlora", rate=1e-2)
    before = base_bytes(student.model)
    finetune.train_(student, lesson(5))
    assert len(coded_layers(student.model)) == len(adapters(student.model)) > 0
    assert base_bytes(student.model) == before


def test_lora_and_qlora_start_from_the_same_a(original):
    plain, coded = (
        list(adapters(finetune.prepared(original, way, seed=4).model).values())
        for way in ("lora", "qlora")
    )
    assert all(torch.equal(a.A, b.A) for a, b in zip(plain, coded, strict=True))
    other = adapters(finetune.prepared(original, "lora", seed=5).model)
    assert not torch.equal(next(iter(other.values())).A, plain[0].A)


def test_masters_move_by_steps_that_16_bits_cannot():
    W = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    lone = nn.Parameter(W.detach().clone())
    with_masters = finetune.MasterAdam([W], lr=1e-3)
    without = torch.optim.Adam([lone], lr=1e-3)
    for _ in range(20):
        for p, adam in ((W, with_masters), (lone, without)):
            p.grad = torch.ones_like(p)
            adam.step()
    assert (lone == 1).all()  # 0.999 rounds to 1, twenty times
    assert W.tolist() == pytest.approx([0.98] * 3, abs=2**-9)


def test_masters_are_adam_in_fp32_rounded():
    start = torch.randn(5, generator=torch.Generator().manual_seed(1)).bfloat16()
    W, exact = nn.Parameter(start.clone()), nn.Parameter(start.float())
    a, b = finetune.MasterAdam([W], lr=0.01), torch.optim.Adam([exact], lr=0.01)
    for step in range(4):
        gradient = torch.full((5,), 1.0 + step).bfloat16()
        W.grad, exact.grad = gradient, gradient.float()
        a.step()
        b.step()
    assert torch.equal(W, exact.bfloat16())
    a.zero_grad()
    assert W.grad is None and a.masters[0].grad is None


def test_masters_have_one_gradient_in_fp32_at_a_time(original, monkeypatch):
    student = finetune.prepared(original, "full")
    finetune.batch_loss(student.model, *lesson(1)[0]).backward()
    seen, step = [], torch.optim.Adam.step

    def watched(adam):
        seen.append(sum(master.grad is not None for master in adam.masters))
        return step(adam)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    student.optimizer.step()
    assert seen == [1] * len(student.optimizer.masters)
    assert all(master.grad is None for master in student.optimizer.masters)


def test_masters_one_by_one_are_masters_all_at_once(original):
    student = finetune.prepared(original, "full")
    start = [W.detach().float() for W in student.optimizer.weights]
    exact = [nn.Parameter(W) for W in start]
    adam = torch.optim.Adam(exact, lr=student.rate)
    for ids, labels in lesson(3):
        student.optimizer.zero_grad()
        finetune.batch_loss(student.model, ids, labels).backward()
        for W, p in zip(student.optimizer.weights, exact, strict=True):
            p.grad = W.grad.float()
        adam.step()
        student.optimizer.step()
    for master, p in zip(student.optimizer.masters, exact, strict=True):
        assert torch.equal(master, p)


def test_a_weight_without_a_gradient_stays():
    still, moving = (nn.Parameter(torch.ones(2).bfloat16()) for _ in range(2))
    adam = finetune.MasterAdam([still, moving], lr=0.1)
    moving.grad = torch.ones_like(moving)
    adam.step()
    assert (still == 1).all() and (moving < 1).all()


def test_a_weight_trained_in_16_bits_takes_sixteen_bytes(original):
    student = finetune.prepared(original, "full")
    ids, labels = lesson(1)[0]
    took = step_memory(
        student.model,
        student.optimizer,
        lambda: finetune.batch_loss(student.model, ids, labels),
    )
    n = sum(p.numel() for p in original.parameters())
    assert (took.gradients, took.optimizer) == (2 * n, 12 * n)
    buffers = sum(b.nbytes for b in student.model.buffers())
    assert took.weights == 2 * n + buffers


def test_the_loss_is_the_model_s_own(original):
    ids, labels = lesson(1)[0]
    own = original(input_ids=ids, labels=labels).loss
    assert finetune.batch_loss(original, ids, labels) == pytest.approx(
        own.item(), rel=1e-5
    )


def test_the_rate_rises_first_and_falls_to_almost_nothing(original):
    student = finetune.prepared(original, "lora")
    seen, step = [], student.optimizer.step
    student.optimizer.step = lambda: (
        seen.append(student.optimizer.param_groups[0]["lr"]),
        step(),
    )
    finetune.train_(student, lesson(40))
    top = seen.index(max(seen))
    assert top == finetune.WARM_UP - 1 and seen[top] <= student.rate
    assert seen[:top] == sorted(seen[:top])
    assert seen[top:] == sorted(seen[top:], reverse=True)
    assert seen[-1] < 0.01 * student.rate


@pytest.mark.parametrize("way", finetune.WAYS)
def test_no_step_follows_more_than_a_gradient_of_norm_clip(original, way):
    student = finetune.prepared(original, way)
    learnt = [p for p in student.model.parameters() if p.requires_grad]
    ids, labels = lesson(1)[0]
    (100 * finetune.batch_loss(student.model, ids, labels)).backward()
    whole = nn.utils.get_total_norm([p.grad.float() for p in learnt]) / 100
    seen, step = [], student.optimizer.step
    student.optimizer.step = lambda: (
        seen.append(nn.utils.get_total_norm([p.grad.float() for p in learnt])),
        step(),
    )
    finetune.train_(student, lesson(1))
    assert whole > 2 * loop.CLIP  # so there was something to be clipped
    assert seen[0].item() == pytest.approx(loop.CLIP, rel=2**-7)  # bf16


def test_an_unknown_way_is_refused(original):
    with pytest.raises(ValueError, match="way is 'dora'; choose from full, lora, ql"):
        finetune.prepared(original, "dora")
