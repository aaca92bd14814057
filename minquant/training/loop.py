"""The loop that all training here shares: loss, gradients, a step, again.

    zero the gradients  ▶  loss  ▶  backward  ▶  clip  ▶  the optimizer's step  ▶  save

Gradients are clipped to a norm of CLIP, as in QLoRA's paper. Without that the first
gradients would throw the model far off, as it is sure of wrong answers. A loss or a
gradient that is not finite ends the run before it can harm the weights. `finetune` and
`qat` say what the loss is, and how the learning rate rises and falls.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.training.checkpoint import Checkpoint

CLIP = 1.0  # the largest norm of a gradient


def train_steps_(
    run: Checkpoint,
    steps: int,
    loss: Callable[[int], Float[Tensor, ""]],
    rate: float,
    schedule: Callable[[int, int], float],
    *,
    progress: bool = False,
) -> list[float]:
    """Trains the weights of `run` with its optimizer, from where its file is; the
    losses of all steps.

    loss(step): a forward pass. rate: the highest learning rate. schedule(step, steps):
    the share of it at a step.

    Raises ValueError if a loss or a gradient is not finite, before that step is taken,
    and as `Checkpoint.resume_` does.
    """
    optimizer, weights = run.optimizer, list(run.weights.values())
    losses = run.resume_()
    done = len(losses)
    bar = tqdm(total=steps, desc="training", delay=3, disable=not progress)
    with bar:
        bar.update(done)
        for step in range(done, steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(step, steps)
            optimizer.zero_grad()
            now = loss(step)
            now.backward()
            norm = nn.utils.clip_grad_norm_(weights, CLIP)
            if not torch.stack([now, norm]).isfinite().all():
                raise ValueError(
                    f"the loss is {now.item()} and the gradient's norm {norm.item()} "
                    f"at step {step}; lower rate {rate}"
                )
            optimizer.step()
            losses.append(now.item())
            run.step_done(losses, steps)
            bar.update()
    optimizer.zero_grad()
    return losses
