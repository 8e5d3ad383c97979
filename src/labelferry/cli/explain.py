"""labelferry explain: where the labels of one case come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelferry.pipeline.story import CaseStory


def explain(run: Path, case: str) -> None:
    """Tell where each organ's pseudo-label of a case comes from, and why it was kept or not.

    Parameters
    ----------
    run
        A folder made by ``labelferry adapt``.
    case
        The name of an MRI of the run: its file name without the ending.
    """
    from labelferry.pipeline.story import explain as tell

    print_story(tell(run, case))


def print_story(story: CaseStory) -> None:
    """Print what holds for the case, then a line for each organ."""
    from rich import box
    from rich.table import Table

    from labelferry.cli.console import console

    out = console()
    out.print(f"{story.case}: patient {story.patient}, domain {story.domain}", markup=False)
    for fact in story.facts:
        out.print(f"  {fact}", markup=False)
    table = Table("organ", "label", "z", "u", "used", "why", box=box.SIMPLE, show_edge=False)
    for organ in story.organs:
        used = {None: "", True: "yes", False: "no"}[organ.kept]
        why = "; ".join(text for text in (organ.reason, organ.dropped) if text)
        table.add_row(organ.organ, organ.origin, _number(organ.z), _number(organ.u), used, why)
    out.print(table)
    out.print("z: implausible above 3.5 or so; u: unstable (eq. 7), 0 is stable; both blank: empty")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
