"""The block that is clicked on: what Python hands over, and what it refuses."""

import pytest
import torch

from minquant.course.gguf.live_block import KINDS, BlockPicture
from minquant.files.gguf import GgufTensor
from minquant.files.gguf_blocks import dequantize_blocks

W = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("own", KINDS)
def test_bytes_are_those_of_the_file(own):
    tensor = GgufTensor.of(W, own)
    picture = BlockPicture(tensor, row=2, number=1)
    data = tensor.data.reshape(3, 3, -1)[2, 1]
    assert picture.blocks[own] == data.tolist()
    values = dequantize_blocks(data[None], own)
    for kind in KINDS:
        assert picture.blocks[kind] == GgufTensor.of(values, kind).data[0].tolist()
    assert f"{data[0]:02x} {data[1]:02x}" in BlockPicture(tensor, 2, 1, type=own).words


def test_a_tensor_of_another_type_is_shown_in_these():
    picture = BlockPicture(GgufTensor.of(W, "F16"), number=2)
    values = W.half().float()[:1, 64:]
    assert picture.blocks["Q8_0"] == GgufTensor.of(values, "Q8_0").data[0].tolist()


def test_what_is_not_there_is_refused():
    tensor = GgufTensor.of(W, "Q4_0")
    with pytest.raises(
        ValueError, match="row is 3 and number 0; the tensor has 3 rows"
    ):
        BlockPicture(tensor, row=3)
    with pytest.raises(ValueError, match="type is 'Q4_K'; choose from Q4_1"):
        BlockPicture(tensor, type="Q4_K")
    with pytest.raises(ValueError, match="weight is 32; choose 0 to 31"):
        BlockPicture(tensor, weight=32)
