"""What is kept for the way back, over one step: it piles up, and is used up.

        ╱╲            going forward every layer leaves something behind;
       ╱  ╲           going back it is used and freed
      ╱ ╱╲ ╲
     ╱_╱__╲_╲         checkpointed: the inputs, and one layer at a time

Forward is measured, layer by layer. Backward is drawn as its mirror. Lesson 09.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from torch import Tensor, nn

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import readable_bytes
from minquant.models.linear_layers import decoder_blocks
from minquant.planning.memory import Saved


def left_by_layer(model: nn.Module, loss: Callable[[], Tensor]) -> list[int]:
    """Bytes kept for the backward pass: at the start of the forward pass, after each
    decoder layer, and at its end."""
    found = [0]
    with Saved(model) as saved, ExitStack() as stack:

        def note(*_: object) -> None:
            found.append(saved.nbytes)

        for block in decoder_blocks(model):
            stack.callback(block.register_forward_hook(note).remove)
        value = loss()
    found.append(saved.nbytes)
    del value
    return found


@palette.style()
def kept_over_a_step(whole: Sequence[int], checkpointed: Sequence[int]) -> Picture:
    """What is kept at each moment of a step, with everything and with inputs alone.

    Both as `left_by_layer` measures them. What a checkpointed layer needs when it is
    computed again is what it left in `whole`.
    """
    layers, end = len(whole) - 2, len(whole) - 1
    title = "One step: going forward it piles up, going back it is used up"
    fig, ax = plot("", "kept, MB", title=title, height=320)
    full = list(enumerate([*whole, *whole[-2::-1]]))
    lean = [*enumerate(checkpointed), (end + 1, checkpointed[layers])]
    for i, layer in enumerate(range(layers, 0, -1)):
        inside = whole[layer] - whole[layer - 1]
        lean.append((end + 1 + i, checkpointed[layer] + inside))
        lean.append((end + 2 + i, checkpointed[layer - 1]))
    tops = []
    for points, color in ((full, palette.BLUE), (lean, palette.VERMILION)):
        x, y = zip(*points, strict=True)
        ax.fill_between(x, [size / 1e6 for size in y], color=color, alpha=0.12, lw=0)
        ax.plot(x, [size / 1e6 for size in y], color=color)
        tops.append(max(y))
    there = [(i, f"layer {i}") for i in range(1, layers + 1)]
    back = [(end + 1 + i, f"layer {layers - i}") for i in range(layers)]
    places, names = zip(*there, (end, "loss"), *back, strict=True)
    ax.set_xticks(places, names)
    ax.set(xlim=(0, full[-1][0]), ylim=(0, None))
    names = "everything is kept", "checkpointed"
    sizes = map(readable_bytes, tops)
    told = [f"{name}: {size}" for name, size in zip(names, sizes, strict=True)]
    fig.write(90, 54, told[0], color=palette.BLUE)
    fig.write(90, 76, told[1], color=palette.VERMILION)
    fig.alt = (
        f"Bytes kept for the backward pass in a step of {layers} layers: they rise "
        f"to the loss and fall again. At most, {'; '.join(told)}. Checkpointed there "
        "is a bump for each layer on the way back."
    )
    return fig
