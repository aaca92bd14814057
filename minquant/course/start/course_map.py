"""The map of the course: its lessons, what each shows, and what you have done.

Lesson 00 draws it from `progress.json`. A lesson counts as done when all its exercises
have passed.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import NamedTuple

from minquant.course import checks
from minquant.course.progress import progress


class Lesson(NamedTuple):
    """Its folder in `minquant/course`, its notebook, its title, what it shows."""

    folder: str
    notebook: str
    title: str
    picture: str


_TABLE = """\
start    | 00_start_here           | Start here | one slider, from 16 bits to 2
floats   | 01_numbers_are_bits     | Numbers are bits | bits to click on
rounding | 02_rounding             | Rounding | a row of weights, snapped to a ruler
rulers   | 03_many_short_rulers    | Many short rulers | error against true bits
damage   | 04_measuring_the_damage | Measuring the damage | what an average hides
outliers | 05_outliers             | Outliers: LLM.int8() | columns that spoil a ruler
gptq     | 06_gptq                 | GPTQ | round a column, push its error right
awq      | 07_awq                  | AWQ | protect what meets large inputs
nf4      | 08_nf4                  | NF4 and double quantization | an uneven ruler
qlora    | 09_qlora                | QLoRA | train on a frozen 4-bit model
packing  | 10_packing_and_kernels  | Packing and the Triton kernel | codes in words
low_bits | 11_how_low_can_you_go   | How low can you go? | 3, 2 and 1.58 bits
capstone | 12_capstone             | Capstone: a real model | a budget and a choice
gguf     | 13_gguf                 | GGUF: the file on your laptop | a file byte by byte
"""
LESSONS = [
    Lesson(*(part.strip() for part in line.split(" | ")))
    for line in _TABLE.splitlines()
]


@dataclass(frozen=True)
class CourseMap:
    """Shows itself as a table. passed: names of the exercises that passed."""

    passed: frozenset[str]

    def done(self, lesson: Lesson) -> tuple[int, int]:
        """How many of a lesson's exercises passed, and how many there are."""
        names = checks.exercises_of(lesson.folder)
        return len(self.passed & set(names)), len(names)

    def __repr__(self) -> str:
        lines = []
        for k, lesson in enumerate(LESSONS):
            done, all_of_them = self.done(lesson)
            lines.append(f"{k:02} {lesson.title}: {done} of {all_of_them} exercises")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for k, lesson in enumerate(LESSONS):
            done, all_of_them = self.done(lesson)
            dots = "●" * done + "○" * (all_of_them - done)
            link = f'<a href="{lesson.notebook}.ipynb">{html.escape(lesson.title)}</a>'
            cells = f"{k:02}", link, html.escape(lesson.picture), dots
            label = f"{done} of {all_of_them} exercises passed"
            rows.append(
                "<tr>"
                + "".join(f'<td style="text-align:left">{c}</td>' for c in cells[:-1])
                + f'<td style="text-align:left" title="{label}">{dots}</td></tr>'
            )
        head = "".join(
            f'<th style="text-align:left">{name}</th>'
            for name in ("", "lesson", "the picture you keep", "exercises")
        )
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def course_map() -> CourseMap:
    """The map, with what `progress.json` says."""
    return CourseMap(frozenset(progress()["passed"]))
