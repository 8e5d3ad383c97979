"""What a person is told, and the exit code that goes with it.

Exit codes of the command line: 0 done, 1 our fault (the traceback is in the log), 2 the input,
3 some cases failed and the rest is done; 130 and 143 stopped by Ctrl-C and by SIGTERM.
"""

from __future__ import annotations

from pathlib import Path

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_INPUT = 2
EXIT_PARTIAL = 3


class UserError(Exception):
    """A mistake in the input or the configuration: told in words, never with a traceback.

    Parameters are the parts of a good message: ``what`` is wrong, with which ``case`` and ``path``,
    the value ``seen``, the values ``allowed``, and the next step (``fix``).
    """

    exit_code = EXIT_INPUT

    def __init__(
        self,
        what: str,
        *,
        case: str | None = None,
        path: Path | str | None = None,
        seen: object = None,
        allowed: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.case = case
        self.path = None if path is None else Path(path)
        self.seen = seen
        self.allowed = allowed
        self.fix = fix
        super().__init__(self.message())

    def message(self) -> str:
        """The whole message, one fact per clause."""
        where = f"{self.case}: " if self.case else ""
        text = f"{where}{self.what}"
        if self.path is not None:
            text += f" ({self.path})"
        if self.seen is not None:
            text += f"; seen: {self.seen}"
        if self.allowed is not None:
            text += f"; allowed: {self.allowed}"
        if self.fix:
            text += f". {self.fix[0].upper()}{self.fix[1:]}"
        return text

    def at(self, path: Path | None, case: str | None = None) -> UserError:
        """The same message about another path and case, or about none."""
        about = self.seen, self.allowed, self.fix
        return _rebuild(type(self), self.what, case, path, *about)

    def without_path(self, *, case: bool = True) -> str:
        """The message for files that others read (manifests, logs, reports, tables of failures):
        the folders of an original path may name a patient. ``case``: say that too."""
        text = self.at(None, self.case if case else None).message()
        return text if self.path is None else text.replace(str(self.path), self.path.name)

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments survive the way back from a worker process
        return (
            _rebuild,
            (type(self), self.what, self.case, self.path, self.seen, self.allowed, self.fix),
        )


def _rebuild(
    kind: type[UserError],
    what: str,
    case: str | None,
    path: Path | None,
    seen: object,
    allowed: object,
    fix: str | None,
) -> UserError:
    return kind(what, case=case, path=path, seen=seen, allowed=allowed, fix=fix)
