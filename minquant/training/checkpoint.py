"""A training run in one file: after a kill it goes on as if nothing had happened.

    losses = train_(student, batches, checkpoint="run.safetensors")

After every `EVERY` steps, and after the last, the file holds all that the next step
depends on: the trained weights, the optimizer's state (Adam's moments, fp32 masters),
torch's random generator (for dropout), and the losses, whose number is the step. The
same call with the same file goes on from there. On the same machine every weight ends
the same to the bit. After the last step the call only reads the result.

The same call means: the same model, prepared in the same way, the same batches in the
same order, the same settings. A fingerprint of all these is in the file. With a file of
another run nothing is trained, as the result would be neither of the two.

A file is written beside the old one, and then takes its name. So whatever moment a kill
comes at, the old file is there or the new one, never half of one. It is safetensors: to
read it runs no code.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minquant.files.whole import whole_file

EVERY = 20  # steps
_RUN = "minquant training run"  # the key of the fingerprint in the file's header
_NOT_OF_THE_RUN = {"_name_or_path": None, "transformers_version": None}


class Checkpoint:
    """The file of one training run; without a path it does nothing.

    Make it before the first step: it takes the fingerprint of the model as it is.
    every: steps between two writes. run: batches and settings, all that makes this run
    this one, besides the model and the optimizer.

    Raises ValueError if `every` is below 1.
    """

    def __init__(
        self,
        path: str | Path | None,
        every: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        run: Sequence[Any],
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; choose 1 step or more")
        self.path = None if path is None else Path(path)
        self.every = every
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = optimizer
        if self.path is not None:
            config = model.config.to_dict()
            what = [model.state_dict(), repr(model), {**config, **_NOT_OF_THE_RUN}]
            how = [type(optimizer).__name__, optimizer.defaults]
            self.run = fingerprint([*what, *how, *run])

    def resume_(self) -> list[float]:
        """Brings weights, optimizer and random generator to where the file is; returns
        the losses of its steps. Without a file nothing changes, and there are none.

        Raises ValueError if the file is of another run, or no such file.
        """
        if self.path is None or not self.path.exists():
            return []
        tensors = self._read()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"weights.{name}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self._device)
        return tensors["losses"].tolist()

    def _read(self) -> dict[str, Tensor]:
        """The tensors of the file, on the CPU. Raises ValueError as `resume_` does."""
        try:
            with safe_open(self.path, framework="pt") as file:
                run = (file.metadata() or {}).get(_RUN)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as problem:
            raise ValueError(
                f"checkpoint {self.path} cannot be read ({problem}); name a new file"
            ) from problem
        if run != self.run:
            raise ValueError(
                f"checkpoint {self.path} is of another run; prepare the model anew and "
                "give the same batches and settings, or name a new file"
            )
        return tensors

    def step_done(self, losses: Sequence[float], steps: int) -> None:
        """Writes the file if it is time: after `every` steps, and after the last."""
        if self.path is None or (len(losses) % self.every and len(losses) < steps):
            return
        tensors = {f"weights.{name}": p.detach() for name, p in self.weights.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": x for key, x in state.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._device)
        tensors["losses"] = torch.tensor(losses, dtype=torch.float64, device="cpu")
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with whole_file(self.path) as part:
            save_file(tensors, part, {_RUN: self.run})

    @property
    def _device(self) -> torch.device:
        return next(iter(self.weights.values())).device


def fingerprint(content: Any) -> str:
    """A number, in hexadecimal, that differs wherever tensors, numbers or words do.

    content: these, in lists, tuples and dicts.
    """
    digest = hashlib.sha256()
    _add(digest, content)
    return digest.hexdigest()


def _add(digest: Any, content: Any) -> None:
    if isinstance(content, dict):
        content = list(content.items())
    if isinstance(content, list | tuple):
        digest.update(f"{len(content)} things".encode())
        for part in content:
            _add(digest, part)
    elif isinstance(content, Tensor):
        digest.update(f"{content.dtype} {tuple(content.shape)}".encode())
        flat = content.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    else:
        digest.update(repr(content).encode())
