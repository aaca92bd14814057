"""The museum: each fault does what its name says, and nothing else."""

import pytest
import torch
from helpers import small_gguf

import minquant as mq
from minquant.course.gguf import museum
from minquant.files.gguf import read
from minquant.models.gguf_model import to_llama_cpp
from minquant.serving.gguf_export import write_gguf


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A small file whose matrices are Q4_1."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(small_gguf.model(), {}, small_gguf.tokenizer(), path, floats="Q4_1")
    return read(path)


def matrices(file):
    return {n: t.dequantize() for n, t in file.tensors.items() if t.type == "Q4_1"}


def test_nibbles_move_weights_by_half_a_block(sound):
    broken = matrices(museum.swap_nibbles(sound))
    for name, W in matrices(sound).items():
        halves = W.reshape(-1, 2, 16).flip(1).reshape(W.shape)
        assert torch.equal(broken[name], halves)


def test_one_matrix_alone_can_be_broken(sound):
    name = "blk.0.ffn_down.weight"
    broken = matrices(museum.swap_nibbles(sound, only=name))
    differ = {n for n, W in matrices(sound).items() if not torch.equal(W, broken[n])}
    assert differ == {name}
    with pytest.raises(ValueError, match="no tensor 'blk.9' of type Q4_1"):
        museum.swap_nibbles(sound, only="blk.9")


def test_scales_are_those_of_the_block_before(sound):
    shifted = museum.shift_scales(sound)
    for name, tensor in sound.tensors.items():
        if tensor.type != "Q4_1":
            continue
        before = tensor.data.unflatten(1, (-1, 20))
        after = shifted.tensors[name].data.unflatten(1, (-1, 20))
        assert torch.equal(before[:, :, 4:], after[:, :, 4:])
        assert torch.equal(before[:, :-1, :4], after[:, 1:, :4])
        assert torch.equal(before[:, -1, :4], after[:, 0, :4])


def test_a_zero_one_too_low_makes_all_weights_a_step_larger(sound):
    broken = matrices(museum.lower_zeros(sound))
    for name, W in matrices(sound).items():
        data = sound.tensors[name].data.reshape(-1, 20)
        d = data[:, :2].contiguous().view(torch.float16).float()
        moved = (broken[name] - W).reshape(-1, 32)
        torch.testing.assert_close(moved, d.expand_as(moved), rtol=1e-2, atol=1e-4)


def test_rows_of_q_and_k_alone_change_their_order(sound):
    broken, whole = matrices(museum.keep_row_order(sound)), matrices(sound)
    for name, W in whole.items():
        heads = {"attn_q": 2, "attn_k": 1}.get(name.split(".")[2], 0)
        seen = to_llama_cpp(broken[name], heads) if heads else broken[name]
        assert torch.equal(seen, W)
    assert not torch.equal(broken["blk.0.attn_q.weight"], whole["blk.0.attn_q.weight"])


def test_the_sound_file_is_left_alone_and_every_broken_one_opens(sound):
    before = {name: t.data.clone() for name, t in sound.tensors.items()}
    exhibits = museum.exhibits(sound)
    assert list(exhibits) == ["A", "B", "C", "D"]
    for letter, file in exhibits.items():
        assert museum.opened(file).config.hidden_size == 64
        assert museum.fault_of(letter) in museum.FAULTS.values()
    assert all(torch.equal(t.data, before[n]) for n, t in sound.tensors.items())


def test_faults_are_for_files_of_their_type(tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(small_gguf.model(), {}, small_gguf.tokenizer(), path, floats="Q8_0")
    for fault in (museum.swap_nibbles, museum.shift_scales, museum.lower_zeros):
        with pytest.raises(ValueError, match="no tensor of type Q4_1"):
            fault(read(path))


def test_every_fault_hangs_in_the_museum():
    assert set(museum.EXHIBITS.values()) == set(museum.FAULTS)
    assert mq.checks.exercises_of("gguf") == [
        "read_block",
        "pack_block",
        "name_the_fault",
    ]
