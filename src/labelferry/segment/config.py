"""What a segmentation network is and how it is trained (paper: Tables 1, 2 and 4)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Space = Literal["plain", "anatomy", "both"]
"""The network's input: the scaled image, its anatomy space, or both as two channels."""
Contrast = Literal["curves", "convolutions", "paint"]
"""How a labelled CT gets a random contrast."""


class NetworkConfig(BaseModel):
    """nnU-Net's plain convolutional U-Net (Tables 1 and 2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dimensions: Literal[2, 3] = 3
    """2-D (one axial slice) or 3-D."""
    patch: tuple[int, ...] = (40, 224, 192)
    """Patch in voxels, (z, y, x); (y, x) in 2-D. Table 2: 40×224×192."""
    channels: int = Field(32, ge=1)
    """Channels in the first stage, doubled at each downsampling. Table 2: 32; small: 16."""
    max_channels: int = Field(320, ge=1)
    """Upper limit of channels (nnU-Net: 320 in 3-D, 512 in 2-D)."""
    downsamplings: int = Field(5, ge=1)
    """Table 2: 5; small: 4."""
    context: int = Field(0, ge=0)
    """2-D: neighbouring slices on each side that are shown as further channels (ours; such a
    network cannot be used by ``nnUNetv2_predict``)."""
    convolutions: int = Field(2, ge=1)
    """Convolutions per stage. Table 1: 2."""

    @model_validator(mode="after")
    def _patch_fits(self) -> Self:
        if len(self.patch) != self.dimensions or min(self.patch) < 4:
            raise ValueError(
                f"patch {self.patch} must have {self.dimensions} axes of at least 4 voxels"
            )
        if self.context and self.dimensions == 3:
            raise ValueError("context is for 2-D networks: a 3-D one sees its neighbours anyway")
        return self

    def channels_in(self, images: int) -> int:
        """Input channels for so many images of one grid."""
        return images * (2 * self.context + 1)


class TrainConfig(BaseModel):
    """One training (Table 4), as numbers instead of a trainer class each."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: int = Field(1000, ge=1)
    """Table 4: 1000. The learning rate falls once per epoch."""
    iterations_per_epoch: int = Field(250, ge=1)
    """Optimiser steps per epoch (nnU-Net: 250)."""
    batch: int = Field(2, ge=1)
    """Patches per step. Table 4: 2."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Table 4: SGD with Nesterov momentum 0.99."""
    learning_rate: float = Field(0.01, gt=0)
    """Initial rate. Table 4: 0.01."""
    warmup: int = Field(0, ge=0)
    """Steps over which the rate rises linearly from 0 (ours; 0 in the paper)."""
    poly: float = Field(0.9, gt=0)
    """Exponent of the polynomial decay (1 − epoch/epochs)^poly. Table 4: 0.9."""
    weight_decay: float = Field(3e-5, ge=0)
    """nnU-Net: 3e-5."""
    gradient_clip: float = Field(12.0, gt=0)
    """Largest gradient norm (nnU-Net: 12)."""
    deep_supervision: bool = True
    """A loss at every resolution of the decoder but the coarsest. Table 1: on."""
    batch_dice: bool = False
    """Dice over the whole batch instead of per patch (nnU-Net: in 2-D, and in 3-D where a patch is
    less than a quarter of a median case)."""
    foreground: float = Field(1 / 3, ge=0, le=1)
    """Share of patches centred on an organ. Table 4: foreground over-sampling (nnU-Net: 1/3, in
    whole patches: one of a batch of 2)."""
    balanced: bool = False
    """Draw the organ first, then a case that has it, so that rare organs come as often (ours)."""
    dice_smooth: float = Field(1e-5, gt=0)
    """Added to numerator and denominator of the Dice loss, in voxels (nnU-Net: 1e-5). A larger
    value spares organs that a batch does not show, which short trainings else forget (ours)."""
    dice_present: bool = False
    """Dice only over organs that the batch shows (ours; nnU-Net counts all). Needs batch_dice."""
    class_weight: float = Field(1.0, gt=0)
    """Weight of every organ in the cross-entropy, against 1 for background (ours; paper: 1)."""
    rarity: float = Field(0.0, ge=0, le=1)
    """Exponent by which that weight grows for rare organs: times (voxels of the commonest organ /
    voxels of this one)^rarity, at most 10. Short trainings on noisy labels else give small organs
    up (ours; paper: 0)."""
    rarity_fades: bool = False
    """Let that exponent fall linearly to 0 over the training: small organs are found early, and
    drawn no larger than they are in the end (ours)."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay of the averaged weights that are kept at the end; 0 keeps the last ones (ours)."""
    rotation_deg: float = Field(30.0, ge=0)
    """Largest random rotation in degrees (nnU-Net: 30; 180 in plane for anisotropic patches)."""
    rotation_p: float = Field(0.2, ge=0, le=1)
    """Probability of a rotation (nnU-Net: 0.2)."""
    scaling: tuple[float, float] = (0.7, 1.4)
    """Range of random zoom (nnU-Net: 0.7–1.4)."""
    scaling_p: float = Field(0.2, ge=0, le=1)
    """Probability of a zoom (nnU-Net: 0.2)."""
    elastic_p: float = Field(0.0, ge=0, le=1)
    """Probability of an elastic deformation (nnU-Net v2: 0; the paper lists it)."""
    mirror: bool = False
    """Random flips along all axes as nnU-Net does. Off: left and right organs differ."""
    intensity: bool = True
    """nnU-Net's noise, blur, brightness, contrast, low resolution and gamma."""
    curves_p: float = Field(0.0, ge=0, le=1)
    """Probability of a random intensity curve on examples that ask for it (ours)."""
    amp: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision: bfloat16 where the device gains by it, always, or never."""
    workers: int = Field(0, ge=0)
    """Processes that prepare patches; 0 prepares them in the training process."""
    checkpoint_seconds: float = Field(60.0, gt=0)
    """Longest time between two checkpoints, in seconds: what a kill can cost."""

    @model_validator(mode="after")
    def _dice_goes_together(self) -> Self:
        if self.dice_present and not self.batch_dice:
            raise ValueError("dice_present counts the organs of a batch: set batch_dice = true")
        return self

    @property
    def iterations(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.iterations_per_epoch
