"""Time and memory of a prediction against the size of the image and the number of organs.

``python -m benchmarks.growth [OUT.png]``: one ``labelferry predict`` a point, ``--export fast``,
with a network of random weights. Time should grow as the volume does, memory with neither the
slices nor (beyond the scores of a window's height) the organs. ``--size x,y,z`` may come several
times, as far as 512,512,600; each size has voxels of ``--mm``.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import matplotlib

from benchmarks.predict import Run, numbers, ours
from benchmarks.predictmodels import make_image, random_bundle
from labelferry.organs import Organ, OrganSet
from labelferry.segment.config import NetworkConfig

matplotlib.use("agg")
SIZES = ["64,64,64", "128,128,64", "128,128,128", "256,256,64", "256,256,128"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plot", type=Path, nargs="?")
    parser.add_argument("--size", action="append")
    parser.add_argument("--mm", default="1.5,1.5,2")
    parser.add_argument("--organs", type=int, action="append")
    parser.add_argument("--spacing", type=numbers, default=(2.5, 2.5, 2.5), help="z,y,x mm")
    parser.add_argument("--patch", type=numbers, default=(32, 64, 64), help="z,y,x")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--downsamplings", type=int, default=2)
    parser.add_argument("--borders", type=float, default=0.0, help="mm; 0: as the network has them")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    network = NetworkConfig(
        patch=given.patch, channels=given.channels, downsamplings=given.downsamplings
    )
    curves: dict[int, list[tuple[int, Run]]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for count in given.organs or [4, 13, 52]:
            organs = OrganSet(tuple(Organ(n, f"organ {n}") for n in range(1, count + 1)))
            folder = work / f"model{count}"
            model = random_bundle(folder, given.spacing, network, organs, given.borders)
            curves[count] = []
            print(f"{count} organs")
            for size in given.size or SIZES:
                image = work / f"{size}.nii.gz"
                if not image.exists():
                    make_image(f"{size}@{given.mm}", image)
                place = work / f"out{count}-{size}"
                place.mkdir()
                run = ours(model, image, place, given.threads, "--export", "fast")
                voxels = math.prod(int(n) for n in size.split(","))
                curves[count].append((voxels, run))
                print(
                    f"  {size:<12} {voxels / 1e6:7.2f} million voxels  {run.seconds:7.1f} s  "
                    f"CPU {run.cpu:7.1f} s  +{run.above_mb:6.0f} MB",
                    flush=True,
                )
    if given.plot:
        draw(curves, given.plot)


def draw(curves: dict[int, list[tuple[int, Run]]], path: Path) -> None:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for count, points in curves.items():
        voxels = [n / 1e6 for n, _ in points]
        left.plot(voxels, [run.seconds for _, run in points], "o-", label=f"{count} organs")
        right.plot(voxels, [run.above_mb for _, run in points], "o-", label=f"{count} organs")
    left.set(xlabel="million voxels", ylabel="seconds, start to exit", ylim=(0, None))
    right.set(xlabel="million voxels", ylabel="MB above the loaded model", ylim=(0, None))
    left.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
