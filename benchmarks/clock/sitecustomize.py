"""Times the parts of a prediction in every process that starts with this folder on PYTHONPATH.

Python imports a module of this name as it starts. Functions are wrapped as their modules load, in
nnU-Net as in ours, so that both sides are measured by the same clock and neither is changed. Each
call adds a line to a file of its process in the folder CLOCK: part, seconds, CPU seconds, end, and
how much it had to do: the network windows, the export voxels of the network's grid.
"""

import functools
import importlib.abc
import importlib.machinery
import inspect
import json
import math
import os
import sys
import threading
import time
from pathlib import Path

PARTS = {
    "nnunetv2.inference.predict_from_raw_data": {
        "nnUNetPredictor.initialize_from_trained_model_folder": "load",
        "nnUNetPredictor._internal_maybe_mirror_and_predict": "network",
        "nnUNetPredictor.predict_sliding_window_return_logits": "accumulation",
    },
    "nnunetv2.preprocessing.preprocessors.default_preprocessor": {
        "DefaultPreprocessor.run_case": "crop"
    },
    "nnunetv2.preprocessing.resampling.default_resampling": {
        "resample_data_or_seg_to_shape": "resample"
    },
    "nnunetv2.imageio.nibabel_reader_writer": {
        "NibabelIOWithReorient.read_images": "read",
        "NibabelIOWithReorient.write_seg": "write",
    },
    "nnunetv2.inference.export_prediction": {
        "convert_predicted_logits_to_segmentation_with_correct_shape": "export"
    },
    "labelferry.predict.foreign": {"load_labeller": "load"},
    "labelferry.predict.files": {"read_image": "read", "read_case": "read"},
    "labelferry.predict.formats": {"write_labels_like": "write"},
    "labelferry.predict.predictor": {"prepare": "crop", "preprocess": "crop"},
    "labelferry.anatomy.prepare": {"resample": "resample"},
    "labelferry.segment.recipe": {"Recipe.prepare": "crop", "resample_image": "resample"},
    "labelferry.predict.window": {"scan": "accumulation"},
    "labelferry.predict.engines": {
        "TorchEngine.__call__": "network",
        "OpenVinoEngine.__call__": "network",
    },
    "labelferry.predict.export": {"exact_labels": "export", "fast_labels": "export"},
}
"""By module: functions, and the part that each is. Of nested ones each counts its own time."""

running = threading.local()


class Call:
    """One timed call; the time of timed calls within it is not its own."""

    def __init__(self, part, amount=0):
        self.part, self.amount, self.inner = part, amount, [0.0, 0.0]

    def __enter__(self):
        if not hasattr(running, "calls"):
            running.calls = []
        running.calls.append(self)
        self.start = [time.perf_counter(), time.process_time()]

    def __exit__(self, *_):
        whole = [time.perf_counter() - self.start[0], time.process_time() - self.start[1]]
        running.calls.pop()
        if running.calls:
            outer = running.calls[-1]
            outer.inner = [a + b for a, b in zip(outer.inner, whole, strict=True)]
        own = [a - b for a, b in zip(whole, self.inner, strict=True)]
        outside = [call.part for call in running.calls]
        part = "export" if self.part == "resample" and "export" in outside else self.part
        line = json.dumps([part, *own, time.time(), self.amount])
        with (Path(os.environ["CLOCK"]) / f"{os.getpid()}.jsonl").open("a") as stream:
            stream.write(line + "\n")


def amount(part, args):
    if part == "network":
        return len(args[1])
    if part == "export":  # nnU-Net's is given the scores, ours slabs of them and their shape
        return math.prod(args[0].shape[1:] if hasattr(args[0], "shape") else args[1])
    return 0


def timed(function, part):
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            made = function(*args, **kwargs)
            while True:
                with Call(part):
                    found = next(made, None)
                if found is None:
                    return
                yield found

        return wrapped

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with Call(part, amount(part, args)):
            return function(*args, **kwargs)

    return wrapped


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PARTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            for place, part in PARTS[name].items():
                *parents, last = place.split(".")
                owner = functools.reduce(getattr, parents, module)
                setattr(owner, last, timed(getattr(owner, last), part))

        spec.loader.exec_module = exec_module
        return spec


if "CLOCK" in os.environ:
    sys.meta_path.insert(0, Finder())
