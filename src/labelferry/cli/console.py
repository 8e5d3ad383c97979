"""Consoles, and the picture of a run on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_AMPLE = 10_000
"""Columns of what is no terminal: a table takes what it needs, and nothing in it is cut."""


def console() -> Console:
    """For results: standard output. Long lines are left to the terminal or the pipe."""
    made = Console(highlight=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = _AMPLE
    return made


def error_console() -> Console:
    """For messages: standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class TerminalEvents:
    """Progress bars with the time left on a terminal; plain lines elsewhere.

    ``name`` stands before every line, where several runs share a terminal; two of them cannot both
    draw ``bars``.
    """

    def __init__(self, name: str = "", *, bars: bool = True) -> None:
        self._console = error_console()
        self._name = f"{name}: " if name else ""
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not (bars and self._console.is_terminal),
        )
        self._tasks: dict[str, TaskID] = {}
        self._noted: set[str] = set()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, state: Literal["start", "done", "unchanged"], text: str) -> None:
        """One line when a stage ends or need not run; bars of the last stage are taken away."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()
        if state == "start":
            self._console.print(f"{self._name}{name:<10} …", style="bold", markup=False)
        else:
            mark = "✓" if state == "done" else "= unchanged:"
            self._console.print(f"{self._name}{name:<10} {mark} {text}", markup=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """Move a bar."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def note(self, text: str, level: Literal["info", "warning"]) -> None:
        """A remark, once."""
        if text not in self._noted:
            self._noted.add(text)
            style = "yellow" if level == "warning" else "dim"
            self._console.print(f"{self._name}{level}: {text}", style=style, markup=False)
