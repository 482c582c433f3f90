"""What a device can do, and in which precision networks are to compute on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

if TYPE_CHECKING:
    import torch

PRECISION = "WAVDIFF_PRECISION"
PRECISIONS = ("auto", "float32", "bf16")
CONVOLUTION = "WAVDIFF_CONVOLUTION"
CONVOLUTIONS = ("auto", "direct", "winograd")

# Values of oneDNN's variables under which it may not use bfloat16 instructions. It passes over values unknown to it.
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISA_WITHOUT_BFLOAT16 = ("sse41", "avx", "avx2", "avx2_vnni", "avx512_core", "avx512_core_vnni")


def _chosen_precision(device: torch.device) -> str:
    """What WAVDIFF_PRECISION says: "auto", "float32" or "bf16".

    Raises:
        WavdiffError: another value, or bfloat16 where it cannot be computed.
    """
    chosen = _checked(os.environ.get(PRECISION) or "auto", PRECISION)
    if chosen == "bf16" and device.type == "cpu" and not _onednn_takes_bfloat16():
        raise WavdiffError(
            f"{PRECISION} (or --precision) must be auto or float32 where oneDNN cannot compute bfloat16, got 'bf16'"
        )
    return chosen


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether networks compute in bfloat16 on `device`: where it is faster than float32, or as WAVDIFF_PRECISION says.

    Raises:
        WavdiffError: another value, or bfloat16 where it cannot be computed.
    """
    chosen = _chosen_precision(device)
    if chosen != "auto":
        return chosen == "bf16"
    if device.type == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_fast_bfloat16()


@contextmanager
def computing_in(precision: str | None) -> Iterator[None]:
    """Let WAVDIFF_PRECISION be `precision`, the value of --precision, while the block runs; None leaves it.

    Raises:
        WavdiffError: none of `PRECISIONS`.
    """
    if precision is None:
        yield
        return
    before = os.environ.get(PRECISION)
    os.environ[PRECISION] = _checked(precision, "--precision")
    try:
        yield
    finally:
        del os.environ[PRECISION]
        if before is not None:
            os.environ[PRECISION] = before


def check_choices(device: torch.device) -> None:
    """Check WAVDIFF_PRECISION and WAVDIFF_CONVOLUTION; a command asks before it writes anything.

    Raises:
        WavdiffError: see `has_fast_bfloat16` and `takes_winograd`.
    """
    _chosen_precision(device)
    takes_winograd(device)


def takes_winograd(device: torch.device) -> bool:
    """Whether wide float32 convolutions are computed by Winograd's algorithm (NNPACK's, in torch) on `device`: where it
    is faster than oneDNN's direct one, on CPUs with AVX2 at most, or as WAVDIFF_CONVOLUTION says.

    Raises:
        WavdiffError: another value, or Winograd where this build of torch or the CPU has none.
    """
    chosen = _checked(os.environ.get(CONVOLUTION) or "auto", CONVOLUTION, CONVOLUTIONS)
    if chosen == "direct" or (chosen == "auto" and device.type != "cpu"):
        return False
    if chosen == "auto":
        return _has_winograd() and _cpu_capability() == "AVX2"
    if device.type != "cpu" or not _has_winograd():
        raise WavdiffError(f"{CONVOLUTION} must be auto or direct where torch has no NNPACK, got 'winograd'")
    return True


def describe_processor() -> str:
    """How networks are computed here, in a line.

    Raises:
        WavdiffError: see `check_choices`.
    """
    import torch

    device = torch.device("cpu")
    if has_fast_bfloat16(device):
        how = "bfloat16"
    else:
        how = f"float32, {'Winograd' if takes_winograd(device) else 'direct'} convolutions"
    return f"CPU {_cpu_capability()}, {torch.get_num_threads()} threads: {how}"


def _has_winograd() -> bool:
    import torch

    return bool(torch._nnpack_available())


def _cpu_capability() -> str:
    """Of the kernels that torch chose: "AVX2", "AVX512", "DEFAULT" ..."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def _checked(text: str, name: str, known: tuple[str, ...] = PRECISIONS) -> str:
    if text not in known:
        raise WavdiffError(f"{name} must be one of {', '.join(known)}, got {shown(text)}")
    return text


def _onednn_takes_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 at all: by instructions of the processor, or slowly without."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache  # as the libraries read the variables: once
def _cpu_has_fast_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16, and the libraries may use them."""
    import torch

    if not _onednn_takes_bfloat16():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True  # on Arm oneDNN is asked about the instructions; on x86 it is content with plain AVX-512
    limits = [os.environ[name].lower() for name in _ISA_VARIABLES if name in os.environ]
    if limits and limits[0] in _ISA_WITHOUT_BFLOAT16:
        return False
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has_instructions and _cpu_capability() not in ("DEFAULT", "NO AVX", "AVX2")
