"""Lesson 13: blocks by hand, and mistakes as learners write them."""

import pytest
import torch

from minquant.course import checks
from minquant.course.gguf import exercises
from minquant.files.gguf_blocks import dequantize_blocks, quantize_blocks

BLOCK = torch.tensor([0, 0x3C, *([0x80] * 15), 0xF7], dtype=torch.uint8)  # d = 1


def test_a_block_by_hand():
    w = exercises.read_block(BLOCK)
    assert w.tolist() == [-8.0] * 15 + [-1.0] + [0.0] * 15 + [7.0]


def test_packed_and_read_again():
    codes, d = exercises.CODES, torch.tensor(0.5)
    data = exercises.pack_block(codes, d)
    assert len(data) == 18 and data.dtype == torch.uint8
    assert torch.equal(exercises.read_block(data), codes * d)


def test_the_package_quantizes_to_such_a_block():
    W = torch.randn(1, 32)
    data = quantize_blocks(W, "Q4_0")
    assert torch.equal(
        exercises.read_block(data[0]), dequantize_blocks(data, "Q4_0")[0]
    )


def in_a_loop(data):
    d = data[:2].view(torch.float16).item()
    low = [(int(byte) & 15) - 8 for byte in data[2:]]
    high = [(int(byte) >> 4) - 8 for byte in data[2:]]
    return [q * d for q in low + high]


def halves_exchanged(data):
    d = data[:2].view(torch.float16).float()
    return (torch.cat([data[2:] >> 4, data[2:] & 15]).float() - 8) * d


def neighbours(data):
    d = data[:2].view(torch.float16).float()
    pairs = [(byte & 15, byte >> 4) for byte in data[2:].tolist()]
    return (torch.tensor(pairs).flatten() - 8) * d


READ = {
    halves_exchanged: "the low halves are weights 0–15",
    neighbours: "the two halves of a byte are no neighbours",
    lambda data: (
        (halves_exchanged(data).roll(16) + 8 * torch.tensor(0.0)) * 0
        + torch.cat([data[2:] & 15, data[2:] >> 4])
        * data[:2].view(torch.float16).float()
    ): "codes 0 … 15 stand for −8 … 7",
    lambda data: (
        (torch.cat([data[2:] & 15, data[2:] >> 4]) - 8)
        * data[:2].view(torch.float16).float()
    ): "uint8 has no numbers below 0",
}


@pytest.mark.parametrize("yours", READ)
def test_a_planted_mistake_of_reading_is_named(yours):
    assert checks.read_block(yours).mistake.startswith(READ[yours])


def test_a_learner_s_own_reader_is_accepted():
    assert checks.read_block(in_a_loop)


def packed(codes, d, half=8, pairs=False):
    q = (codes + half) % 16
    low, high = (q[::2], q[1::2]) if pairs else (q[:16], q[16:])
    scale = d.half().reshape(1).view(torch.uint8)
    return torch.cat([scale, (low + 16 * high).to(torch.uint8)])


PACKED = {
    lambda c, d: packed(c, d, half=0): "add 8 to the codes",
    lambda c, d: packed(c, d, pairs=True): "byte i holds weights i and i + 16",
    lambda c, d: packed(c.roll(16), d): "weights 0–15 are the low halves",
    lambda c, d: packed(c, d).roll(-2): "the scale comes before the codes",
}


@pytest.mark.parametrize("yours", PACKED)
def test_a_planted_mistake_of_packing_is_named(yours):
    assert checks.pack_block(yours).mistake.startswith(PACKED[yours])


def test_a_learner_s_own_packer_is_accepted():
    assert checks.pack_block(packed)
    assert checks.pack_block(lambda c, d: packed(c, d).int())


def by_set(W, seen):
    """Another right way: what the halves and rows hold."""
    halves = W.reshape(len(W), -1, 2, 16)
    if torch.equal(halves.flip(2).reshape(W.shape), seen):
        return 0
    rows = {tuple(row) for row in W.tolist()}
    if all(tuple(row) in rows for row in seen.tolist()):
        return torch.tensor(1)
    spread = (seen - W).reshape(-1, 32).std(1)
    return 2 if spread.max() < 1e-6 else 3


def test_a_learner_s_own_diagnosis_is_accepted():
    assert checks.name_the_fault(by_set)


def sorted_numbers(W, seen):
    if torch.equal(W.flatten().sort().values, seen.flatten().sort().values):
        return 1
    return by_set(W, seen)


DIAGNOSES = {
    sorted_numbers: "swapped nibbles hold the same numbers too",
    lambda W, seen: 0: "it answers 0 whatever it sees",
    lambda W, seen: (
        3 if (r := int(by_set(W, seen))) == 2 and (seen - W).std() > 1e-6 else r
    ): "each block has a step of its own",
}


@pytest.mark.parametrize("yours", DIAGNOSES)
def test_a_planted_mistake_of_diagnosis_is_named(yours):
    assert checks.name_the_fault(yours).mistake.startswith(DIAGNOSES[yours])
