"""The hardware of this machine, and the check that it has what params.yaml asks for."""

import os
import platform
from pathlib import Path

import torch

from tuneline import instruction_set
from tuneline.errors import SetupError
from tuneline.params import Compute

_CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_SETS = ("avx512_bf16", "amx_bf16", "bf16")
"""Instruction sets that multiply bfloat16 numbers, as Linux names them; the last is Arm's."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """GPUs that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def instruction_sets(cpuinfo: Path = _CPUINFO) -> set[str]:
    """The instruction sets of the processor; empty on a system without /proc/cpuinfo."""
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return set(flags.partition(":")[2].split())


def computes_bfloat16(sets: set[str]) -> bool:
    """Whether bfloat16 is faster than float32 on a processor with these instruction sets."""
    return any(name in sets for name in BFLOAT16_SETS)


def fingerprint(compute: Compute) -> list[str]:
    """What decides over the bits of a result: the processor, and the GPUs if they compute."""
    if compute.device == "cuda":
        return [platform.machine(), *(torch.cuda.get_device_name(number) for number in range(gpus()))]
    if compute.portable:
        return [platform.machine(), "portable"]
    return on_processor()


def on_processor() -> list[str]:
    """What decides over the bits that this process computes on its processor."""
    chosen = instruction_set.chosen_by_hand(os.environ)
    return [platform.machine(), torch.backends.cpu.get_cpu_capability(), *chosen]


def portable_problem(machine: str, sets: set[str]) -> str | None:
    """Why a machine cannot compute what compute.portable asks for, as a sentence; None if it can.

    Args:
        machine: the kind of its processor, as `platform.machine` names it.
        sets: the processor's instruction sets.
    """
    lacking = [name for name in instruction_set.NEEDED if name not in sets]
    if machine.lower() not in ("x86_64", "amd64"):
        return f"compute.portable: this processor is {machine}, and portable results need x86_64; set it to false"
    if lacking:
        return (
            f"compute.portable: this processor does not have {' and '.join(lacking)}, which portable results need; set "
            "it to false, or run on a processor that has"
        )
    return None


def check_portable(compute: Compute) -> None:
    """Check that this process computes portable results if params.yaml asks for them.

    Raises:
        SetupError: the processor cannot, or the process was not started with the environment that restricts it.
    """
    if not compute.portable:
        return
    if problem := portable_problem(platform.machine(), instruction_sets()):
        raise SetupError(problem)
    if not instruction_set.is_restricted(os.environ) or torch.backends.cpu.get_cpu_capability() != "AVX2":
        raise SetupError(
            "compute.portable: this process is not restricted to one instruction set; start the stage with dvc repro "
            "or make run, which restrict it"
        )


def check(compute: Compute, processes: int = 1) -> None:
    """Check that this machine has what params.yaml asks for.

    Args:
        compute: the params.
        processes: of the training.

    Raises:
        SetupError: a GPU, a core or an instruction set is missing.
    """
    check_portable(compute)
    problems, on_gpu = [], compute.device == "cuda"
    if on_gpu and not gpus():
        built = "torch is built without CUDA" if not torch.version.cuda else "torch finds no GPU"
        problems.append(f"compute.device: cuda: {built}; set it to cpu, or run on a machine with a GPU")
    elif on_gpu and processes > gpus():
        problems.append(
            f"finetune.nproc_per_node: {processes} processes are more than the GPUs of this machine ({gpus()}); "
            f"set it to {gpus()} or less"
        )
    elif not on_gpu and processes > cores():
        problems.append(
            f"finetune.nproc_per_node: {processes} processes are more than the cores that this process may use "
            f"({cores()}); set it to {cores()} or less"
        )
    if compute.precision == "bfloat16" and not on_gpu and not computes_bfloat16(instruction_sets()):
        problems.append(
            f"compute.precision: bfloat16: this processor has none of {', '.join(BFLOAT16_SETS)}, so bfloat16 is "
            "slower than float32; set it to float32"
        )
    if compute.precision == "bfloat16" and on_gpu and gpus() and not torch.cuda.is_bf16_supported():
        problems.append("compute.precision: bfloat16: this GPU does not compute with bfloat16; set it to float32")
    if problems:
        raise SetupError(*problems)
