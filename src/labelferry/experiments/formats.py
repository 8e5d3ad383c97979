"""A table of words as text, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
}


@dataclass(frozen=True)
class WordTable:
    """Cells as they are shown; the first column is left-aligned, the others right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def as_text(table: WordTable) -> str:
    """Columns of equal width, for a terminal."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    shown = [_padded(line, widths) for line in lines]
    return "\n".join([table.title, *shown, *([table.note] if table.note else [])])


def _padded(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [line[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join(cells).rstrip()


def as_markdown(table: WordTable) -> str:
    """A heading, the note and a pipe table."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = ["| " + " | ".join(_pipe_safe(line)) + " |" for line in (table.header, rule)]
    lines += ["| " + " | ".join(_pipe_safe(line)) + " |" for line in table.rows]
    note = [table.note, ""] if table.note else []
    return "\n".join([f"### {table.title}", "", *note, *lines, ""])


def _pipe_safe(line: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in line]


def as_latex(table: WordTable) -> str:
    """A ``table`` with booktabs rules."""
    columns = "l" + "r" * (len(table.header) - 1)
    body = [" & ".join(latex_safe(cell) for cell in line) + r" \\" for line in table.rows]
    caption = latex_safe(table.title + (f". {table.note}" if table.note else ""))
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(latex_safe(cell) for cell in table.header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex_safe(text: str) -> str:
    """Text with LaTeX's own signs escaped."""
    return "".join(_LATEX.get(sign, sign) for sign in text)
