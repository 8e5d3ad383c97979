"""The checks that look at voxels and grids."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from bank_checks import check
from bank_product import SPACING, Result, case_id, checked_case, load, organ_stats, prepared, want

from labelferry.organs import FLARE


@check
def label_stats_equal_truth(scene, case, result, row):
    truth = case["truth"]["labels"][row["file"]]
    if result.stage == "check":
        found = checked_case(result, row["file"])["organs"]
    elif result.stage == "train":
        found = organ_stats(*load(prepared(result, row["file"]) / "label.nii.gz"))
    else:
        return
    want(set(found) == set(truth), f"organs {sorted(found)} instead of {sorted(truth)}")
    for organ, stats in truth.items():
        places = found[organ]["centroid_ras_mm"], stats["centroid_ras_mm"]
        apart = float(np.linalg.norm(np.array(places[0]) - np.array(places[1])))
        want(apart <= row["centroid_tol_mm"] + 0.02, f"organ {organ} is {apart:.2f} mm off")
        if row["exact_counts"]:
            counts = found[organ]["voxels"], stats["voxels"]
            want(counts[0] == counts[1], f"organ {organ}: {counts[0]} voxels of {counts[1]}")


@check
def output_grid_equals_input(scene, case, result, row):
    if result.stage != "predict":
        return
    name = Path(row["file"]).name
    want(name in result.labels, f"no labels for {name}")
    made = nibabel.load(result.labels[name])
    given = nibabel.load(result.inputs[name])
    shape = given.shape[:3]
    want(made.shape == shape, f"shape {made.shape} instead of {shape}")
    np_close(made.affine, given.affine, row["affine_tol"], "affine")
    if int(made.header["qform_code"]):
        np_close(made.get_qform(), given.affine, 0.5, "qform")
    codes = [(int(i.header["sform_code"]), int(i.header["qform_code"])) for i in (made, given)]
    want(codes[0] == codes[1], f"codes {codes[0]} instead of {codes[1]}")


def np_close(found: np.ndarray, wanted: np.ndarray, tolerance: float, what: str) -> None:
    apart = float(np.abs(found - wanted).max())
    want(apart <= tolerance, f"the {what} is {apart:.4f} off")


@check
def samples_equal_truth(scene, case, result, row):
    samples = case["truth"]["samples"][row["file"]]
    if result.stage == "check":
        organs = checked_case(result, row["file"])["organs"]
        for sample in samples:
            mean = organs[str(FLARE.named(sample["organ"]).id)]["mean_intensity"]
            # one noisy voxel against the mean of its organ
            want(abs(mean - sample["value"]) < 40, f"{sample['organ']}: mean {mean:.1f}")
    elif result.stage == "train":
        image, affine = load(prepared(result, row["file"]) / "image.nii.gz")
        low, high = ct_window(result)
        for sample in samples:
            value = low + (high - low) * at(image, affine, sample["ras_mm"])
            want(
                abs(value - sample["value"]) <= row["tol"] + 0.2,
                f"{sample['organ']}: {value:.2f} instead of {sample['value']}",
            )


def ct_window(result: Result) -> tuple[float, float]:
    path = result.out / "prepare" / "manifest.json"
    low, high = json.loads(path.read_text(encoding="utf-8"))["config"]["prepare"]["ct_window"]
    return low, high


def at(array: np.ndarray, affine: np.ndarray, place: list[float]) -> float:
    index = np.linalg.inv(affine) @ [*place, 1.0]
    return float(array[tuple(np.round(index[:3]).astype(int))])


@check
def mean_intensity_in_label(scene, case, result, row):
    if result.stage == "check":
        found = checked_case(result, row["image"])["organs"][str(row["label"])]["mean_intensity"]
    elif result.stage == "train":
        folder = prepared(result, row["image"])
        low, high = ct_window(result)
        image, labels = load(folder / "image.nii.gz")[0], load(folder / "label.nii.gz")[0]
        found = float(low + (high - low) * image[labels == row["label"]].mean())
    else:
        return
    want(abs(found - row["value"]) <= row["tol"], f"{found:.1f} instead of {row['value']}")


@check
def finite_after_preprocessing(scene, case, result, row):
    if result.stage == "train":
        for name in ("image", "anatomy"):
            array, _ = load(prepared(result, row["file"]) / f"{name}.nii.gz")
            want(bool(np.isfinite(array).all()), f"{name} is not finite")
            want(float(array.std()) > 0, f"{name} is constant")
    elif result.stage == "predict":
        want(Path(row["file"]).name in result.labels, "no labels were written")


@check
def contrast_kept(scene, case, result, row):
    if result.stage != "train":
        return
    from labelferry.anatomy.config import AnatomyConfig
    from labelferry.anatomy.prepare import prepare, prepare_labels
    from labelferry.io.nifti import read_image, read_labels

    clean = scene.folder / case["id"] / "reference" / "clean"
    name = case_id(Path(row["file"]).name)
    config = AnatomyConfig(spacing=(SPACING, SPACING, SPACING))
    best = prepare(read_image(clean / f"{name}.nii.gz").volume, "MR", config)
    labels = read_labels(clean / f"{name}_labels.nii.gz", FLARE)
    marked = prepare_labels(labels, best)
    array, affine = load(prepared(result, row["file"]) / "image.nii.gz")

    def contrast(image: np.ndarray, grid: np.ndarray) -> float:
        means = []
        for organ in (1, 2):
            index = np.argwhere(marked.array == organ)
            places = index @ marked.grid.affine[:3, :3].T + marked.grid.affine[:3, 3]
            means.append(np.mean([at(image, grid, [*place]) for place in places]))
        return abs(float(means[0] - means[1]))

    kept = contrast(array, affine) / contrast(best.image.array, best.image.grid.affine)
    want(kept >= row["min_ratio"], f"{kept:.2f} of the contrast is left")


@check
def normalised_std_between(scene, case, result, row):
    if result.stage != "train":
        return
    from labelferry.segment.bundle import read_bundle
    from labelferry.segment.preprocess import preprocess

    folder = prepared(result, row["file"])
    image, body = load(folder / "image.nii.gz")[0], load(folder / "body.nii.gz")[0]
    want(bool(np.isfinite(image).all()), "not finite")
    plans = read_bundle(result.out / "refine" / "model")[0].plans
    channels = np.ascontiguousarray(image.T[None]).astype(np.float32)
    data, box = preprocess(channels, plans)
    inside = body.T[tuple(slice(*part) for part in box)] > 0
    found = float(data[0][inside].std())
    want(row["lo"] <= found <= row["hi"], f"standard deviation {found:.3f}")


@check
def labels_subset_after_resample(scene, case, result, row):
    if result.stage != "train":
        return
    given, affine = load(result.folder / row["file"])
    made, grid = load(prepared(result, row["file"]) / "label.nii.gz")
    before, after = organ_stats(given, affine), organ_stats(made, grid)
    extra = set(after) - set(before)
    want(not extra, f"new values {sorted(extra)}")
    voxel = [abs(float(np.linalg.det(m[:3, :3]))) for m in (affine, grid)]
    for organ, stats in before.items():
        kept = after.get(organ, {"voxels": 0})["voxels"] * voxel[1] / (stats["voxels"] * voxel[0])
        want(kept >= row["min_volume_ratio"], f"organ {organ} keeps {kept:.0%} of its volume")


@check
def converted_volumes_equal_truth(scene, case, result, row):
    folder = row["folder"]
    out = result.out / Path(folder).name
    volumes = sorted(out.rglob("*.nii.gz"))
    truth = case["truth"]["volumes"].get(folder, [{"samples": row.get("samples", [])}])
    want(len(volumes) == row["n_volumes"], f"{len(volumes)} volumes in {folder}")
    loaded = [load(path) for path in volumes]
    for wanted in truth:
        samples = row.get("samples", wanted["samples"])
        shape = sorted(wanted.get("voxels_ijk", ()))
        fitting = [v for v in loaded if not shape or sorted(v[0].shape) == shape]
        want(bool(fitting), f"no volume of shape {shape}")
        faults = [
            max(abs(at(array, affine, s["ras_mm"]) - s["value"]) for s in samples)
            for array, affine in fitting
        ]
        want(min(faults) <= row["value_tol"], f"samples are {min(faults):.1f} off")


@check
def registration_dice_at_least(scene, case, result, row):
    if result.stage != "train":
        return
    from labelferry.match.config import MatchConfig
    from labelferry.match.registration import register
    from labelferry.match.transfer import carry
    from labelferry.pipeline.prepared import prepared_cases

    cases = {
        (role, c.id): c.read()
        for role in ("source", "target")
        for c in prepared_cases(result.out / "prepare", role)
    }
    fixed = cases["target", case_id(Path(row["fixed"]).name)]
    name = case_id(Path(row["moving"]).name)
    moving = cases["source", name]
    config = MatchConfig()
    affine = register(fixed.image, moving.image, fixed.body, moving.body, config)
    from labelferry.io.nifti import read_labels

    labels = read_labels(result.out / "prepare" / "source" / name / "label.nii.gz", FLARE)
    moved = carry(labels, fixed.image.grid, affine.matrix)
    shift = np.array(case["truth"]["true_shift_mm"])
    true = np.zeros_like(moved.array)
    index = np.argwhere(labels.array == row["label"])
    places = labels.grid.to_world(index.astype(float)) + shift
    there = np.round(fixed.image.grid.to_index(places)).astype(int)
    inside = ((there >= 0) & (there < fixed.image.grid.shape)).all(axis=1)
    true[tuple(there[inside].T)] = row["label"]
    a, b = moved.array == row["label"], true == row["label"]
    dice = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    want(dice >= row["value"], f"DSC {dice:.3f}")
