"""labelferry status: how far a run is."""

from __future__ import annotations

from pathlib import Path


def status(run: Path) -> None:
    """Show how far a run is.

    Parameters
    ----------
    run
        A folder made by ``labelferry adapt``.
    """
    from labelferry.cli.console import console
    from labelferry.pipeline.chain import status as read_status

    for name, state, text in read_status(run):
        console().print(f"{name:<10} {state:<8} {text}".rstrip(), markup=False)
