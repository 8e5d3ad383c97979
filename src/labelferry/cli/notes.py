"""What was found in files, line by line: refusals first, then warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from labelferry.cli.console import TerminalEvents
    from labelferry.io.notes import Note

_STYLES = {"refused": "red", "warning": "yellow", "info": "dim"}


def tell(events: TerminalEvents, note: Note) -> None:
    """A note while something goes on."""
    events.note(note.line(), "info" if note.severity == "info" else "warning")


def print_notes(out: Console, notes: Iterable[Note]) -> None:
    """One line for each note, with the place that it speaks of."""
    for note in sorted(notes, key=lambda note: [*_STYLES].index(note.severity)):
        text = f"{note.severity}: {note.line()}"
        if note.path is not None:
            text += f" ({note.path})"
        out.print(text, style=_STYLES[note.severity], markup=False)
