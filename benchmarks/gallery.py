"""A picture of what a teacher may be shown: CT, its anatomy spaces, fakes, random contrasts, MRI.

``python -m benchmarks.gallery OUT.png``: a phantom cohort, and one pair of translators for each
domain at size ``demo``, ``--steps`` each. Each row of a block is a slice of another CT; the target
MRI are of other patients at the same height. Radiological view: the patient's right is on the left,
the front up. All seeds are fixed. ``--run FOLDER`` keeps cohort and run there: the next call only
draws.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

import labelferry
from labelferry.anatomy.space import anatomy_space
from labelferry.files import atomic_path
from labelferry.io.nifti import read_image, read_labels
from labelferry.organs import FLARE
from labelferry.phantom.cohort import write_cohort
from labelferry.pipeline.config import load_config
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.translations import find_translations
from labelferry.segment.contrast import draw_contrast, paint
from labelferry.segment.convolutions import convolve, draw_convolutions
from labelferry.segment.curves import draw_curve, draw_scanner, repaint
from labelferry.segment.tissues import Composition, class_of_organ, classify

Array = NDArray[Any]
HEIGHTS = (0.42, 0.52, 0.62)
"""Of the slices, as a share of the image from the feet up."""
GREYS = 48
WIDE_PX = 180
HEAD = 0.16
"""Height of a line of heads, as a share of a cell's width."""


def make_run(folder: Path, steps: int) -> Path:
    """A run up to the stage translate, with one pair of translators for each domain."""
    write_cohort(folder / "cohort", ct=8, mri=8, test=0, seed=1)
    labelferry.adapt(
        folder / "run",
        folder / "cohort" / "source",
        folder / "cohort" / "target",
        size="demo",
        overrides=(
            "threads=1",
            "workers=1",
            "translate.per_domain=true",
            f"translate.iterations={steps}",
            "translate.samples_every=0",
        ),
        until="translate",
    )
    return folder / "run"


def row(run: Path, number: int) -> dict[str, Array]:
    """Columns of one CT, by name: a slice (x, y) each."""
    source = prepared_cases(run / "prepare", "source")[number]
    ready = source.read()
    image, body, grid = ready.image.array, ready.body.array, ready.image.grid
    config = load_config("default", "demo").prepare
    z = round(HEIGHTS[number] * (image.shape[2] - 1))
    local = config.model_copy(update={"gradient_scale": "local"})
    cells = {
        "CT": image[:, :, z],
        "Sobel": ready.anatomy.array[:, :, z],
        "Sobel, local": anatomy_space(image, grid.spacing, body, local)[:, :, z],
    }
    for translation in find_translations(run / "translate"):
        fake = read_image(translation.fake(source.id)).volume.array
        cells[f"fake {translation.domain}"] = fake[:, :, z]
    cells |= contrasts(image, source, grid.spacing, config.ct_window, z)
    for domain in sorted({case.domain for case in prepared_cases(run / "prepare", "target")}):
        cases = [c for c in prepared_cases(run / "prepare", "target") if c.domain == domain]
        real = read_image(cases[number % len(cases)].file("image")).volume.array
        cells[f"MRI {domain}"] = real[:, :, round(HEIGHTS[number] * (real.shape[2] - 1))]
    return cells


def contrasts(
    image: Array, source: PreparedCase, spacing: Any, window: tuple[float, float], z: int
) -> dict[str, Array]:
    """The slice behind random curves and convolutions, and painted, scanner and all."""
    unit = np.ascontiguousarray(image.transpose(2, 1, 0), np.float32)
    labels = read_labels(source.file("label"), FLARE).array.transpose(2, 1, 0)
    normalised = (unit - unit.mean()) / unit.std()
    limits = float(normalised.min()), float(normalised.max())
    counts = np.histogram(normalised, bins=256)[0]
    classes = classify(unit, labels, FLARE, window, spacing[::-1])
    composition = Composition.measure(unit, classes, FLARE)
    patch, part = normalised[z][None], classes[z][None]
    found = {}
    for n in (1, 2):
        rng = np.random.default_rng((n, z))
        seen = repaint(patch, limits, counts / counts.sum(), draw_curve(rng), draw_scanner(rng, 2))
        found[f"curve {n}"] = seen[0].T
    for n in (1, 2):
        rng = np.random.default_rng((n + 20, z))
        network, scanner = draw_convolutions(rng), draw_scanner(rng, 2)
        inside = np.ones(patch.shape[1:], bool)
        found[f"convolved {n}"] = convolve(patch, limits, inside, network, scanner)[0].T
    for n in (1, 2):
        contrast = draw_contrast(
            np.random.default_rng((n + 10, z)), int(class_of_organ(FLARE).max()) + 1, 2
        )
        found[f"paint {n}"] = paint(patch, part, composition, contrast)[0].T
    return found


def draw(rows: list[dict[str, Array]]) -> Image.Image:
    """Cells of one size in two blocks, CT to curves and the rest to MRI, heads above each."""
    names = list(rows[0])
    first = next(n for n, name in enumerate(names) if name.startswith("convolved"))
    blocks = names[:first], names[first:]
    wide, high = (max(cell.shape[a] for r in rows for cell in r.values()) for a in (0, 1))
    across, down = max(map(len, blocks)), len(blocks) * (len(rows) * high / wide + HEAD)
    figure = Figure(figsize=(across * WIDE_PX / 100, down * WIDE_PX / 100), facecolor="black")
    for b, block in enumerate(blocks):
        for r, cells in enumerate(rows):
            for c, name in enumerate(block):
                bottom = 1 - (b + 1) / len(blocks) + (len(rows) - 1 - r) * high / wide / down
                place = c / across, bottom, 0.98 / across, 0.98 * high / wide / down
                axes = figure.add_axes(place)
                low, top = np.percentile(cells[name], (0.5, 99.5))
                frame = centred(cells[name], (wide, high), low)
                # x grows to the patient's right and y to the front: seen from the feet, front up
                axes.imshow(frame.T[::-1, ::-1], cmap="gray", vmin=low, vmax=top, aspect="auto")
                axes.set_axis_off()
                if r == 0:
                    axes.set_title(name, color="white", fontsize=11, pad=4)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    stream.seek(0)
    return Image.open(stream).convert("L").quantize(GREYS)


def centred(cell: Array, shape: tuple[int, int], fill: float) -> Array:
    """A cell in the middle of a frame that may be larger."""
    frame = np.full(shape, fill)
    x, y = ((n - m) // 2 for n, m in zip(shape, cell.shape, strict=True))
    frame[x : x + cell.shape[0], y : y + cell.shape[1]] = cell
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(given.run or Path(scratch), given.steps)
        picture = draw([row(run, number) for number in range(len(HEIGHTS))])
    with atomic_path(given.out) as part:
        picture.save(part, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
