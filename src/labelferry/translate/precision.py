"""Mixed precision: where bfloat16 pays."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch


def autocast(
    device: torch.device, amp: Literal["auto", "bf16", "fp32"]
) -> AbstractContextManager[object]:
    """A torch context in which networks run in bfloat16, or one that changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(device, amp))


def in_bf16(device: torch.device, amp: Literal["auto", "bf16", "fp32"]) -> bool:
    """Whether networks run in bfloat16 there."""
    return amp == "bf16" or (amp == "auto" and bf16_pays(device))


def bf16_pays(device: torch.device) -> bool:
    """Whether convolutions are faster in bfloat16 than in single precision; by kind, not by clock.

    A GPU that has it; a CPU with matrix registers (AMX), or one of AMD that has the instructions
    (twice as fast). Intel's without AMX have the same instructions and are slower by them: a
    training step of size ``laptop`` took 1.65 CPU s instead of 1.31.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return _cpu_has("_is_amx_tile_supported") or (
        _cpu_has("_is_avx512_bf16_supported") and "AuthenticAMD" in _cpu_maker()
    )


def _cpu_has(question: str) -> bool:
    # torch has no public question for it
    ask: Any = getattr(torch.cpu, question, None)
    return bool(ask and ask())


@cache
def _cpu_maker() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()  # Windows: "AMD64 Family …, AuthenticAMD"
    lines = (line.partition(":")[2].strip() for line in text.splitlines() if "vendor_id" in line)
    return next(lines, "")
