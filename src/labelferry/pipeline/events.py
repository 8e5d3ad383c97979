"""What a run tells while it goes on. The command line draws it; the API may stay silent."""

from __future__ import annotations

from typing import Literal, Protocol

Level = Literal["info", "warning"]


class Events(Protocol):
    """Receives what happens in a run."""

    def stage(self, name: str, state: Literal["start", "done", "unchanged"], text: str) -> None:
        """A stage begins, ends, or need not run again."""

    def progress(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps or cases of ``what``."""

    def note(self, text: str, level: Level) -> None:
        """Something that a person should know."""


class Silent:
    """Tells nothing."""

    def stage(self, name: str, state: Literal["start", "done", "unchanged"], text: str) -> None:
        """Say nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Say nothing."""

    def note(self, text: str, level: Level) -> None:
        """Say nothing."""
