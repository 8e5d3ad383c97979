"""The verbs and where each one lives."""

from __future__ import annotations

from cyclopts import App

from labelferry import __version__
from labelferry.cli.ablate import ablate, ladder
from labelferry.cli.adapt import adapt
from labelferry.cli.compare import compare
from labelferry.cli.data import app as data
from labelferry.cli.demo import demo
from labelferry.cli.efficiency import efficiency
from labelferry.cli.evaluate import evaluate
from labelferry.cli.explain import explain
from labelferry.cli.export import export
from labelferry.cli.phantom import phantom
from labelferry.cli.predict import predict
from labelferry.cli.report import report
from labelferry.cli.status import status

app = App(
    name="labelferry",
    help="Carry organ labels from annotated CT to unannotated MRI, and leave with a small, fast "
    "segmentation model.",
    version=__version__,
    suppress_keyboard_interrupt=False,  # ``run`` says how to go on
)
for verb in (
    *(adapt, status, report, explain, predict, evaluate, compare, efficiency, export),
    *(phantom, demo, ablate, ladder),
):
    app.command(verb)
app.command(data)
