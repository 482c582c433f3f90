"""Where networks compute in bfloat16: where the processor has instructions for it and may use them, or as told."""

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import Outcome, run_python

from wavdiff.system import devices
from wavdiff.system.devices import computing_in, has_fast_bfloat16, takes_winograd
from wavdiff.system.errors import WavdiffError

CPU = torch.device("cpu")
VARIABLES = (
    "WAVDIFF_PRECISION",
    "WAVDIFF_CONVOLUTION",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
)
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable set, and nothing remembered."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    devices._cpu_has_fast_bfloat16.cache_clear()
    yield
    devices._cpu_has_fast_bfloat16.cache_clear()


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends to be on another processor."""

    def pretend(machine: str, *, avx512_bf16: bool = False, amx: bool = False, onednn: bool = True) -> None:
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        monkeypatch.setattr(devices, "_onednn_takes_bfloat16", lambda: onednn)
        devices._cpu_has_fast_bfloat16.cache_clear()

    return pretend


def test_instructions_decide(processor: Callable[..., None]) -> None:
    for machine, features, fast in (
        ("x86_64", {}, False),  # AVX-512 without bfloat16, where oneDNN emulates it
        ("x86_64", {"avx512_bf16": True}, True),
        ("AMD64", {"amx": True}, True),
        ("x86_64", {"avx512_bf16": True, "onednn": False}, False),
        ("aarch64", {}, True),
        ("aarch64", {"onednn": False}, False),
    ):
        processor(machine, **features)
        assert has_fast_bfloat16(CPU) is fast, (machine, features)


@pytest.mark.parametrize(
    ("variable", "value", "fast"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX2_VNNI_2", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", False),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core_vnni", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", True),
        ("ONEDNN_MAX_CPU_ISA", "no name of it", True),
        ("DNNL_MAX_CPU_ISA", "SSE41", False),
    ],
)
def test_what_onednn_may_use(
    processor: Callable[..., None], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, fast: bool
) -> None:
    monkeypatch.setenv(variable, value)
    processor("x86_64", avx512_bf16=True, amx=True)
    assert has_fast_bfloat16(CPU) is fast


@pytest.mark.slow
@pytest.mark.skipif(not IS_X86, reason="limits of x86 processors")
@pytest.mark.parametrize(
    "limit", [("ONEDNN_MAX_CPU_ISA", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"), ("ATEN_CPU_CAPABILITY", "avx2")]
)
def test_a_limited_processor_has_none(monkeypatch: pytest.MonkeyPatch, limit: tuple[str, str]) -> None:
    monkeypatch.setenv(*limit)
    code = "import torch\nfrom wavdiff.system import devices\nprint(devices.has_fast_bfloat16(torch.device('cpu')))"
    assert run_python(code) == "False\n"


def test_a_gpu_that_emulates_is_not_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not has_fast_bfloat16(torch.device("cuda"))


def test_the_variable_overrules(processor: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (False, True):
        processor("x86_64", avx512_bf16=fast)
        for value, expected in (("float32", False), ("bf16", True), ("auto", fast), ("", fast)):
            monkeypatch.setenv("WAVDIFF_PRECISION", value)
            assert has_fast_bfloat16(CPU) is expected
            assert has_fast_bfloat16(torch.device("meta")) is (value == "bf16")
    for value in ("half", "BF16", "x" * 999):
        monkeypatch.setenv("WAVDIFF_PRECISION", value)
        with pytest.raises(
            WavdiffError, match="WAVDIFF_PRECISION must be one of auto, float32, bf16, got '"
        ) as refused:
            has_fast_bfloat16(CPU)
        assert len(str(refused.value)) < 300


def test_what_cannot_be_computed_is_refused(processor: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    processor("x86_64", onednn=False)
    monkeypatch.setenv("WAVDIFF_PRECISION", "bf16")
    with pytest.raises(WavdiffError, match="WAVDIFF_PRECISION .* must be auto or float32 where .*, got 'bf16'"):
        has_fast_bfloat16(CPU)


@pytest.mark.parametrize(
    ("variable", "capability", "nnpack", "device", "taken"),
    [
        (None, "AVX2", True, "cpu", True),
        ("", "AVX2", True, "cpu", True),
        ("auto", "AVX512", True, "cpu", False),  # oneDNN's direct convolutions are as fast there
        ("auto", "AVX2", False, "cpu", False),
        ("auto", "AVX2", True, "meta", False),
        ("direct", "AVX2", True, "cpu", False),
        ("winograd", "AVX512", True, "cpu", True),
        ("winograd", "AVX2", False, "cpu", "WAVDIFF_CONVOLUTION must be auto or direct where torch has no NNPACK"),
        ("winograd", "AVX2", True, "meta", "WAVDIFF_CONVOLUTION must be auto or direct where torch has no NNPACK"),
        ("fft", "AVX2", True, "cpu", "WAVDIFF_CONVOLUTION must be one of auto, direct, winograd, got 'fft'"),
    ],
)
def test_where_winograd_is_taken(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, capability: str, nnpack: bool, device: str, taken: bool | str
) -> None:
    monkeypatch.setattr(devices, "_cpu_capability", lambda: capability)
    monkeypatch.setattr(devices, "_has_winograd", lambda: nnpack)
    if variable is not None:
        monkeypatch.setenv("WAVDIFF_CONVOLUTION", variable)
    if isinstance(taken, bool):
        assert takes_winograd(torch.device(device)) is taken
    else:
        with pytest.raises(WavdiffError, match=taken):
            takes_winograd(torch.device(device))


def test_an_option_holds_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "bf16"):
        if before:
            monkeypatch.setenv("WAVDIFF_PRECISION", before)
        with pytest.raises(KeyError), computing_in("float32"):
            assert not has_fast_bfloat16(CPU)
            raise KeyError
        with computing_in(None):
            assert os.environ.get("WAVDIFF_PRECISION") == before
        with pytest.raises(WavdiffError, match="--precision must be one of .*, got 'half'"), computing_in("half"):
            pass
        assert os.environ.get("WAVDIFF_PRECISION") == before


def test_a_command_asks_before_it_writes(
    cli: Callable[..., Outcome],
    tiny_model: Path,
    tmp_path: Path,
    processor: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor("x86_64", onednn=False)
    (tmp_path / "a.png").touch()
    for command in (("sample", "--n", 2, "--out", tmp_path / "out"), ("denoise", tmp_path / "a.png")):
        for precision, rule in (("bf16", "must be auto or float32"), ("half", "--precision must be one of auto")):
            refused = cli(*command, "--model", tiny_model, "--precision", precision)
            assert refused.code == 1 and refused.err.count("\n") == 1 and not refused.out
            assert rule in refused.err and f"got '{precision}'" in refused.err and "a.png" not in refused.err
        monkeypatch.setenv("WAVDIFF_CONVOLUTION", "fft")
        refused = cli(*command, "--model", tiny_model)
        assert refused.code == 1 and "WAVDIFF_CONVOLUTION must be one of" in refused.err and not refused.out
        monkeypatch.delenv("WAVDIFF_CONVOLUTION")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
