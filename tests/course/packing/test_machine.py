"""A machine measured: every way computes the product that it is timed at."""

import itertools

import torch

import minquant as mq
from minquant.course.packing import machine


def test_a_machine_has_a_bandwidth_and_peaks(monkeypatch):
    monkeypatch.setattr(machine, "READ", 2**16)
    now = machine.this_machine()
    assert now.bandwidth > 0 and now.peak > 0
    assert all(rate > 0 for rate in now.narrow.values())


def test_the_shortest_of_three_runs_counts(monkeypatch):
    ticks = itertools.chain([0], [1, 5, 6, 8, 9, 12], itertools.count(99))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks))
    assert machine.best_seconds(lambda: None) == 2


def test_every_way_is_timed_for_every_number_of_tokens(monkeypatch):
    monkeypatch.setattr(machine, "READ", 2**16)
    times = machine.product_seconds(side=128)
    names = ["fp16"] if machine.GPU else ["fp32", "bf16"]
    assert list(times)[: len(names) + 1] == [*names, machine.W_HAT_FIRST]
    assert all(tuple(row) == machine.TOKENS for row in times.values())


def test_every_way_multiplies_with_the_same_matrix(monkeypatch):
    monkeypatch.setattr(machine, "READ", 2**18)
    W = torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    q = mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(128))
    packed = mq.pack_matrix(q)
    W_hat = q.dequantize().to(machine.DEVICE)
    X = torch.randn(5, 128, device=machine.DEVICE)
    for name, dtype, run in machine._ways(W_hat, packed.to(machine.DEVICE)):
        for _ in range(3):  # each copy
            Y = run(X.to(dtype)).float()
            assert ((Y - X @ W_hat.T).norm() / Y.norm()) < 2e-2, name
