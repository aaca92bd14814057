"""What a learner has done: guesses, and exercises that passed, in one small file.

    predict("one bit less", 1.5)              # before the answer is known
    reveal("one bit less", 2.34, "times")     # You said 1.5 times; it is 2.34 times.
    clear_progress()

A guess that turns out wrong teaches more than none, so lessons ask for guesses and come
back to them. Who made none finds the answer folded, one click away. `checks` notes each
exercise that passes. Lesson 00 draws the map of the course from this.

The file is `progress.json`, beside the notebooks: JSON, small, yours. It is written
whole or not at all. Outside a notebook nothing is kept.
"""

from __future__ import annotations

import html
import json
import os
import sys
from pathlib import Path
from typing import Any

PLACE = "MINQUANT_PROGRESS"  # an environment variable: another place for the file
Guess = float | str | None


class Shown:
    """A line of text that a notebook shows as HTML."""

    def __init__(self, text: str, page: str) -> None:
        self.text, self.page = text, page

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.page


def predict(question: str, guess: object) -> Shown | None:
    """Keep a guess. None is no guess: then an earlier one, if any, stays.

    Raises TypeError if the guess is neither a number nor a string.
    """
    if guess is None:
        return None
    if not isinstance(guess, (int, float, str)):
        raise TypeError(
            f"guess is a {type(guess).__name__}; write a number, or a word in quotes"
        )
    kept = _read()
    kept["guesses"][question] = guess
    _write(kept)
    return _box(f"Noted: {_said(guess)}.")


def reveal(question: str, answer: Guess, unit: str = "") -> Shown:
    """The answer beside the guess; folded if there is no guess.

    answer: a number, which is shown with three digits, or words.
    """
    guess = _read()["guesses"].get(question)
    truth = f"{_said(answer)} {unit}".strip()
    if guess is not None:
        return _box(f"You said {_said(guess)} {unit}".rstrip() + f"; it is {truth}.")
    text = f"You made no guess. It is {truth}."
    folded = (
        "<details><summary>You made no guess. Make one above, or open this for the "
        f"answer.</summary>It is <b>{html.escape(truth)}</b>.</details>"
    )
    return Shown(text, folded)


def note_passed(exercise: str) -> str:
    """Keep that an exercise passed. Returns why that could not be, or ""."""
    try:
        kept = _read()
        if exercise not in kept["passed"]:
            kept["passed"].append(exercise)
            _write(kept)
    except (OSError, ValueError) as problem:
        return f"not kept: {problem}"
    return ""


def progress() -> dict[str, Any]:
    """What is kept: {"passed": names of exercises, "guesses": question to guess}."""
    return _read()


def clear_progress() -> None:
    """Forget all guesses and all exercises that passed."""
    if (path := _path()) is not None:
        path.unlink(missing_ok=True)


def _path() -> Path | None:
    """Where the file is: beside the notebook that runs. None outside a notebook."""
    if place := os.environ.get(PLACE):
        return Path(place)
    in_notebook = "ipykernel" in sys.modules
    return Path("progress.json").absolute() if in_notebook else None


def _read() -> dict[str, Any]:
    """Raises ValueError if the file is there and is not what `_write` wrote."""
    path = _path()
    kept: dict[str, Any] = {"passed": [], "guesses": {}}
    if path is None or not path.is_file():
        return kept
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: type(value)(found[key]) for key, value in kept.items()}
    except (ValueError, KeyError, TypeError) as problem:
        raise ValueError(
            f"{path} does not hold the progress of a course ({problem}); repair it, or "
            "start anew with minquant.course.progress.clear_progress()"
        ) from problem


def _write(kept: dict[str, Any]) -> None:
    if (path := _path()) is None:
        return
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    beside.write_text(f"{text}\n", encoding="utf-8")
    os.replace(beside, path)


def _said(value: Guess) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _box(text: str) -> Shown:
    style = "border-left:4px solid #0072B2;padding:4px 12px;line-height:1.6"
    return Shown(text, f'<div style="{style}">{html.escape(text)}</div>')
