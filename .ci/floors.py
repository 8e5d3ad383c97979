"""Constraints that pin every library to the lowest version that ``pyproject.toml`` allows.

PyTorch is left out: ``constraints.txt`` pins it for tests.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for line in [*project["dependencies"], *extras["openvino"]]:
    name, floor = re.fullmatch(r"([\w.-]+)>=([\d.]+).*", line).groups()
    if name != "torch":
        print(f"{name}=={floor}")
