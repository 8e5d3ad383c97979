"""Our steps against nnU-Net's own preprocessor, bit for bit."""

import subprocess
import sys

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.segment.config import NetworkConfig
from labelferry.segment.plans import make_plans
from labelferry.segment.preprocess import preprocess, preprocess_example

INTENSITIES = {
    str(c): {"mean": 0.4, "std": 0.2, "percentile_00_5": 0.05, "percentile_99_5": 0.9}
    for c in range(2)
}


def nnunet(channels, labels, plans):
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    (name,) = plans["configurations"]
    seg = None if labels is None else labels[None].astype(np.int16)
    data, seg, box = crop_to_nonzero(channels.copy(), seg)
    data = DefaultPreprocessor(verbose=False)._normalize(
        data,
        seg,
        manager.get_configuration(name),
        manager.foreground_intensity_properties_per_channel,
    )
    return data, seg[0], tuple((int(low), int(high)) for low, high in box)


def image(seed):
    """Two channels in a box with empty borders; a hollow, and a hole to the outside."""
    random = np.random.default_rng(seed)
    channels = np.zeros((2, 9, 14, 12), np.float32)
    channels[0, 1:7, 2:12, 1:9] = random.random((6, 10, 8))
    channels[1, 2:8, 3:9, 2:11] = random.random((6, 6, 9))
    channels[:, 3:5, 5:7, 4:6] = 0
    channels[:, :3, 2:4, 1:4] = 0
    labels = random.integers(0, 14, channels.shape[1:]).astype(np.uint8)
    return channels, labels


@pytest.mark.parametrize("intensities", [None, INTENSITIES])
@pytest.mark.parametrize("seed", range(3))
def test_is_what_nnunet_does(seed, intensities):
    channels, labels = image(seed)
    plans = make_plans(NetworkConfig(), (2.5, 1.0, 1.0), 2, batch=2, intensities=intensities)
    before = channels.copy()
    data, box = preprocess(channels, plans)
    expected, _, expected_box = nnunet(channels, None, plans)
    np.testing.assert_array_equal(data, expected)
    assert box == expected_box
    data, seg = preprocess_example(channels, labels, plans)
    expected, expected_seg, _ = nnunet(channels, labels, plans)
    np.testing.assert_array_equal(data, expected)
    np.testing.assert_array_equal(seg, expected_seg)
    assert (data.dtype, seg.dtype, seg.min()) == (np.float32, np.int16, -1)
    np.testing.assert_array_equal(channels, before)


def test_an_empty_image_is_refused():
    plans = make_plans(NetworkConfig(), (2.5, 1.0, 1.0), 1, batch=2)
    with pytest.raises(UserError, match="zero everywhere"):
        preprocess(np.zeros((1, 4, 5, 6), np.float32), plans)


def test_loads_no_preprocessor():
    script = (
        "import sys, numpy as np\n"
        "from labelferry.segment.config import NetworkConfig\n"
        "from labelferry.segment.plans import make_plans\n"
        "from labelferry.segment.preprocess import preprocess\n"
        "plans = make_plans(NetworkConfig(), (2.5, 1.0, 1.0), 1, batch=2)\n"
        "preprocess(np.ones((1, 4, 5, 6), np.float32), plans)\n"
        "assert not {'blosc2', 'SimpleITK', 'pandas', 'skimage'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
