"""Restricts the libraries that compute to one instruction set, so that different x86 processors write the same bytes.

torch, oneDNN, MKL, NumPy and OpenBLAS choose their code by the processor, and each choice rounds and sums differently.
They read these variables when they are loaded, some before Python code runs.
"""

import os
import sys
from collections.abc import Mapping

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # The only branch of MKL that computes the same bits on Intel's and AMD's processors; AMD's ignore AVX2 here.
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    # OpenBLAS otherwise starts as many threads as there are cores.
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
"""The variables that restrict every library to AVX2 or less."""
OTHERS = (
    "DNNL_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "GLIBC_TUNABLES",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_DEFAULT_FPMATH_MODE",
)
"""Further variables with which a person can choose instructions; a portable result must not depend on them."""
NEEDED = ("avx2", "fma")
"""The instructions that a processor needs for portable results, as Linux names them."""


def restricted(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process whose results are portable: this one, without what would change them."""
    return {name: value for name, value in environment.items() if name not in OTHERS} | PORTABLE


def is_restricted(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment computes portable results."""
    return restricted(environment) == dict(environment)


def chosen_by_hand(environment: Mapping[str, str]) -> list[str]:
    """The variables of this environment that choose instructions, as NAME=value."""
    return [f"{name}={environment[name]}" for name in sorted({*PORTABLE, *OTHERS}) if environment.get(name)]


def restrict() -> None:
    """Let this process compute portable results. If its environment does not fit, it starts again with one that does.

    Call it before anything else that happens once per process.
    """
    if not is_restricted(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], restricted(os.environ))
