"""labelferry demo: the main job on the digital phantom."""

from __future__ import annotations

from pathlib import Path


def demo(
    folder: Path = Path("demo-run"),
    *,
    preset: str = "default",
    size: str = "demo",
    seed: int = 0,
) -> int:
    """Make a phantom cohort, run the whole chain on it, and score it on patients it never saw.

    Parameters
    ----------
    folder
        Folder for the cohort, the run and the predictions.
    preset
        The method.
    size
        The budget.
    seed
        Seed of the phantom and of the run.
    """
    from labelferry.cli.console import TerminalEvents, console
    from labelferry.cli.evaluate import print_scores
    from labelferry.experiments.demo import run_demo

    with TerminalEvents() as events:
        result = run_demo(folder, preset=preset, size=size, seed=seed, events=events)
    print_scores(result.evaluation)
    console().print(f"report: {result.report}", markup=False)
    return result.exit_code
