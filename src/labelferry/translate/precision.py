"""Mixed precision: where bfloat16 pays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch


def autocast(
    device: torch.device, amp: Literal["auto", "bf16", "fp32"]
) -> AbstractContextManager[object]:
    """A torch context in which networks run in bfloat16, or one that changes nothing."""
    on = amp == "bf16" or (amp == "auto" and _has_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=on)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # torch has no public question for it; a build without oneDNN has no such operator
        probe = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(probe and has_onednn and probe())
    return False
