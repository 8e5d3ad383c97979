from __future__ import annotations

import numpy as np
import pytest

from labelferry.io.sides import centroids, contradictions, turned_in_prediction
from labelferry.organs import FLARE
from labelferry.volume import Grid, Segmentation

PLACES = {
    "liver": (60, 10, 20),
    "spleen": (-85, -20, 30),
    "stomach": (-50, 35, 25),
    "right kidney": (55, -45, -25),
    "left kidney": (-60, -45, -20),
    "aorta": (-8, -30, 0),
}


def turned(*signs: int) -> dict[str, np.ndarray]:
    return {name: np.array(place, float) * signs for name, place in PLACES.items()}


def test_a_body_as_it_is_says_nothing():
    assert contradictions(turned(1, 1, 1)) == []


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ((-1, 1, 1), ["left and right"]),
        ((1, -1, 1), ["front and back"]),
        ((1, 1, -1), ["head and foot"]),
        ((-1, -1, 1), ["left and right", "front and back"]),
    ],
)
def test_every_axis_is_told(signs, words):
    said = contradictions(turned(*signs))
    assert len(said) == len(words)
    assert all(f"{word} are swapped" in text for word, text in zip(words, said, strict=True))


def test_swapped_kidneys_are_no_mirror_image():
    places = turned(1, 1, 1)
    places["left kidney"], places["right kidney"] = places["right kidney"], places["left kidney"]
    (said,) = contradictions(places)
    assert said == "the right kidney lies left of the left kidney: are their labels swapped?"


def test_few_organs_say_nothing():
    places = turned(-1, 1, 1)
    assert contradictions({name: places[name] for name in ("liver", "spleen")}) == []
    assert contradictions({}) == []


def test_centres_are_in_the_world():
    array = np.zeros((10, 8, 6), np.uint8)
    array[2:5, 1:4, 3:6] = 3
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 7, 8, 9
    found = centroids(Segmentation(array, Grid(array.shape, affine)), FLARE)
    assert set(found) == {"spleen"}
    np.testing.assert_allclose(found["spleen"], [7 - 2 * 3, 8 + 3 * 2, 9 + 4 * 4])


def predicted(sign: int, scattered: float) -> Segmentation:
    """Balls at the places of organs (10 mm voxels), with a share of their voxels elsewhere."""
    rng = np.random.default_rng(0)
    array = np.zeros((32, 24, 14), np.uint8)
    affine = np.diag([10.0, 10, 10, 1])
    affine[:3, 3] = -155, -115, -65
    grid = Grid(array.shape, affine)
    world = grid.to_world(np.indices(array.shape).reshape(3, -1).T.astype(float))
    for name, place in turned(sign, 1, 1).items():
        ball = (np.linalg.norm(world - place, axis=1) < 24).reshape(array.shape)
        array[ball & (rng.random(array.shape) >= scattered)] = FLARE.named(name).id
    return Segmentation(array, grid)


def test_labels_of_a_network_are_believed_where_organs_are_in_one_piece():
    (said,) = turned_in_prediction(predicted(-1, 0), FLARE)
    assert "left and right are swapped" in said
    assert turned_in_prediction(predicted(1, 0), FLARE) == []
    assert turned_in_prediction(predicted(-1, 0.8), FLARE) == []
    assert turned_in_prediction(predicted(-1, 0), FLARE, believed={"liver", "spleen"}) == []
