"""How the translators are built and trained (paper 2.1, eq. 1-4)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AuditConfig(BaseModel):
    """Whether a fake keeps the anatomy of its CT; ours, measured by ``benchmarks/audit.py``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Judge every fake, and leave those that fail out of teaching."""
    z_structure: float = Field(4.0, gt=0)
    """Largest robust z by which an organ agrees less with its CT than the same organ does in the
    other fakes of the run (from six fakes on); no unit."""
    z_displacement: float = Field(6.0, gt=0)
    """Largest robust z by which an organ is displaced more; no unit."""
    least_agreement: float = Field(0.3, ge=-1, lt=1)
    """Least correlation of the edges in and round an organ with those that the CT predicts; no
    unit."""
    most_displacement: float = Field(2.0, gt=0)
    """Largest displacement of an organ's part in mm, times the share of the unexplained that it
    explains (0 to 1)."""
    most_left_out: float = Field(0.5, ge=0, le=1)
    """Largest share of the fakes that may be left out."""
    flicker: float = Field(0.7, gt=0)
    """A slice is named where its style differs from that of both neighbours by so many times the
    usual step from slice to slice of the source; 0 is the same style."""


class TranslateConfig(BaseModel):
    """A CycleGAN on axial slices. Where the paper gives no number, it is CycleGAN's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Off: the teacher sees no translated image."""
    space: Literal["anatomy", "plain"] = "anatomy"
    """Translate in anatomy space (the paper's ASIT) or the scaled images (Table 7)."""
    per_domain: bool = False
    """One pair of translators for each target domain, so that each CT gets a fake of each (ours);
    off: one pair for all MRI (the paper's reading)."""
    gan_loss: Literal["lsgan", "vanilla"] = "lsgan"
    """Eq. 1 with squares, as CycleGAN, or with logarithms, as printed (``vanilla``)."""
    identity: Literal["cyclegan", "paper"] = "cyclegan"
    """Eq. 3: T_t keeps a real target image (``cyclegan``), or T_t keeps a source image, as printed
    (``paper``); T_s likewise."""
    source_adversary: Literal["cyclegan", "paper"] = "cyclegan"
    """What D_s takes for false: T_s of a target image (``cyclegan``), or the source image that
    went to the target and back, as printed (``paper``)."""
    lambda_cycle: float = Field(10.0, ge=0)
    """Weight λ1 of eq. 2 in eq. 4. The paper gives none."""
    lambda_identity: float = Field(5.0, ge=0)
    """Weight λ2 of eq. 3 in eq. 4; 0 leaves it out. The paper gives none."""
    channels: int = Field(64, ge=1)
    """Channels of the translators' first layer."""
    blocks: int = Field(9, ge=0)
    """Residual blocks of the translators."""
    stem: Literal["resnet", "subpixel"] = "resnet"
    """Full-size first and last layers, or layers on 2x2 groups of pixels, several times faster on a
    CPU (``subpixel``, ours)."""
    discriminator_channels: int = Field(64, ge=1)
    """Channels of the discriminators' first layer."""
    discriminator_layers: int = Field(3, ge=1, le=5)
    """Halvings in the discriminators: 3 judge patches of 70x70 pixels, 2 of 34x34."""
    pool: int = Field(50, ge=0)
    """Earlier translations kept to train each discriminator with; 0: only the newest."""
    iterations: int = Field(100_000, ge=1)
    """Optimiser steps; with ``per_domain``, of each pair of translators."""
    batch: int = Field(1, ge=1)
    """Slices of each side per step."""
    crop: tuple[int, int] = (256, 256)
    """Pixels (x, y) of a training slice, at most those of the largest slice: a larger slice is
    cropped at random, a smaller one padded by reflection. Made a multiple of 4."""
    learning_rate: float = Field(2e-4, gt=0)
    """Initial rate of Adam."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates."""
    decay_from: float = Field(0.5, ge=0, le=1)
    """Share of the steps after which the rate falls linearly to 0."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay of the averaged weights of T_t, kept in place of the last ones; 0: off (ours)."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between two checkpoints: what a kill can cost."""
    amp: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision: bfloat16 where the device gains by it, always, or never."""
    samples_every: int = Field(5000, ge=0)
    """Steps between two pictures of the same six slices; one more at the end; 0: none."""
    stop_window: int = Field(0, ge=0)
    """Early stop: steps over which the cycle loss (eq. 2) is averaged; 0: all ``iterations`` are
    made, as in the paper (ours)."""
    stop_patience: int = Field(5, ge=1)
    """Early stop: windows in a row without a gain, after which training ends."""
    stop_gain: float = Field(0.01, ge=0, lt=1)
    """Early stop: share of the least average so far by which a window must be lower to gain."""
    audit: AuditConfig = AuditConfig()
    """Does each fake keep the anatomy?"""
