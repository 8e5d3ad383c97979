"""From an image to its labels: pseudo-labels and final labels alike.

``load_model`` loads on first use, so that importing the room loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelferry.predict.predictor import load_model as load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from labelferry.predict.predictor import load_model

        return load_model
    raise AttributeError(f"module 'labelferry.predict' has no attribute {name!r}")
