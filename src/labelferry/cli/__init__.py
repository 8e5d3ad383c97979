"""The command line. Only this room prints."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quota


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code (0, 1, 2 or 3; see ``errors``)."""
    # Threads that spin while they wait make training eight times slower as soon as another program
    # wants a core, against a third when the machine is idle. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no file name must stop what is said about it
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(run(sys.argv[1:] if tokens is None else tokens))


def run(tokens: Sequence[str]) -> int:
    """Run one command; returns its exit code. A person's mistake never shows a traceback."""
    from cyclopts import CycloptsError

    from labelferry.cli.app import app
    from labelferry.cli.console import error_console
    from labelferry.errors import EXIT_DONE, EXIT_FAULT, EXIT_INPUT, UserError

    try:
        result = app(
            list(tokens), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except UserError as error:
        error_console().print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    except CycloptsError as error:
        error_console().print(f"error: {error}", style="red", markup=False)
        error_console().print("Try 'labelferry --help'.", markup=False)
        return EXIT_INPUT
    except KeyboardInterrupt as stop:
        error_console().print("stopped; the same command goes on from here", style="yellow")
        return stopped_by(stop)
    except BrokenPipeError:
        return EXIT_DONE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            text = "error: the disk is full, or your quota is: what was finished is whole; make "
            text += "room and run the same command again"
            error_console().print(text, style="red", markup=False)
            return EXIT_INPUT
        error_console().print(_leave_traceback(), style="red", markup=False)
        return EXIT_FAULT
    return result if isinstance(result, int) else EXIT_DONE


def stopped_by(stop: KeyboardInterrupt) -> int:
    """The exit code of a command that was stopped: 130 by Ctrl-C, 143 by ``kill``."""
    return 128 + (stop.args[0] if stop.args else signal.SIGINT)


def _stop(number: int, _: FrameType | None) -> None:
    """Being terminated is like Ctrl-C: workers end with the command, and it says how to go on."""
    raise KeyboardInterrupt(number)


def _leave_traceback() -> str:
    """Write the traceback of the current exception to a file and say where."""
    import tempfile
    import traceback
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix="labelferry-fault-"))
    path = folder / "traceback.txt"
    path.write_text(traceback.format_exc(), encoding="utf-8")
    last = traceback.format_exc().strip().splitlines()[-1]
    return (
        f"this is a fault of labelferry, not of your data: {last}\n"
        f"The whole traceback is in {path} (and in the run folder's log.jsonl). Please report it."
    )
