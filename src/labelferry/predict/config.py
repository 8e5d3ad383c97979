"""How a trained network is applied (paper 2.4, Table 1)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Export = Literal["fast", "exact", "paper"]
Amp = Literal["auto", "bf16", "fp16", "fp32"]
EngineName = Literal["auto", "torch", "openvino"]
Format = Literal["bundle", "nnunet"]
"""What a model can be given away as: one file of ours, or a model folder of nnU-Net."""
LabelFormat = Literal["nifti", "dicom-seg"]
"""What labels are written as."""


def _is_none(value: object) -> bool:
    return value is None


class PredictConfig(BaseModel):
    """Sliding window and the way from scores to labels on the input's grid."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: float = Field(0.5, gt=0, le=1)
    """Distance of two windows as a fraction of the patch (nnU-Net: 0.5). No mirroring (Table 4)."""
    gaussian: bool = True
    """Weigh the middle of a window more than its border, as nnU-Net does."""
    batch: int = Field(2, ge=1)
    """Windows per call of a 3-D network; a 2-D network takes eight times as many slices. On a CPU
    large windows go one by one: together they would only need more memory."""
    engine: EngineName = "auto"
    """What runs the network. ``auto``: OpenVINO on a CPU where it is installed, else torch."""
    amp: Amp = "auto"
    """Precision of the network: bfloat16 where the device gains by it, else single. A model of
    nnU-Net has nnU-Net's own: single on a CPU, half (``fp16``) on a GPU."""
    skip_empty: bool = True
    """Leave out windows without any of the body; the labels within the body are the same."""
    coarse: float = Field(0.0, ge=0)
    """A first look for the organs on voxels so many times as large, in windows side by side, and
    then windows only where they are; 0: no such look, the whole body is labelled. Networks know
    images up to the zoom that they were trained with (nnU-Net: 1.4; ours)."""
    coarse_margin_mm: float = Field(20.0, ge=0)
    """``coarse``: how far round the organs found windows go, in mm; further where an organ reaches
    that border (ours)."""
    accumulate: Literal["fp32", "fp16"] = "fp32"
    """Precision of the sum over windows; fp16 halves the memory (nnU-Net: fp16)."""
    export: Export = "fast"
    """``fast``: scores resampled linearly along all axes, streamed. ``exact``: as nnU-Net does.
    ``paper``: sigmoid, threshold, then labels resampled (Table 1)."""
    largest_component: bool = False
    """Keep only the largest connected part of each organ (ours)."""
    solid_signal: float = Field(0.0, ge=0, lt=1)
    """Drop from each solid organ (liver, kidneys, spleen, pancreas) what is darker than this share
    of its median signal, holes of axial slices apart: lung, gas, fat without signal; 0: nothing
    (ours). Signal counts from the darkest percentile of the body, as prepared."""
    neck: float = Field(0.0, ge=0, lt=1)
    """Drop from each solid organ what hangs on it by a neck thinner than this share of the organ at
    its thickest, and has a median signal of more than 1.25 times or less than 0.8 of its; 0:
    nothing (ours)."""
    borders_mm: float = Field(0.0, ge=0)
    """Move the borders of each organ to edges of the image, by so many mm at most; 0: they stay
    where the network draws them (ours; a random walker, Grady 2006)."""
    max_ram_gb: float | None = Field(None, gt=0, exclude_if=_is_none)
    """Memory that labelling an image may take, in GB of 2**30 bytes, the loaded model included: a
    case that is estimated to need more is labelled in a leaner way, or refused. Not set: no limit.
    """

    @model_validator(mode="after")
    def _looks_closer(self) -> Self:
        if 0 < self.coarse < 1:
            raise ValueError(f"coarse {self.coarse:g} must be 0 or at least 1")
        return self
