"""With compute.portable a training ends in the same bytes, whatever the processor and the caller's environment are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT, Project

from tuneline.core import files
from tuneline.modeling import hardware
from tuneline.params import editing

# With these, MKL takes every processor for one of Intel's.
_INTEL = "int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n"


def machines(folder: Path) -> dict[str, dict[str, str]]:
    """Name -> the environment in which this processor computes as another one does."""
    found = {"this": {}, "without AVX2": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "AUTO"}}
    found["older"] = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F", "OPENBLAS_CORETYPE": "Sandybridge"}
    if compiler := shutil.which("cc"):
        (folder / "intel.c").write_text(_INTEL)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", "intel.so", "intel.c"], cwd=folder, check=True)
        found["Intel's"] = {"LD_PRELOAD": str(folder / "intel.so")}
        found["Intel's with AVX2"] = {"LD_PRELOAD": str(folder / "intel.so"), "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    return found


def trained(place: Path, stage: str, variables: dict[str, str]) -> str:
    """The sha256 of the weights that a stage writes with these variables."""
    shutil.rmtree(place / "work", ignore_errors=True)
    done = Project(place).run("-m", "tuneline.stages", stage, **variables, PYTHONPATH=str(ROOT / "src"))
    assert done.returncode == 0, done.stderr
    return files.sha256_file(place / "models" / {"finetune": "finetuned"}.get(stage, stage) / "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    hardware.portable_problem("x86_64", hardware.instruction_sets()) is not None, reason="needs a processor with AVX2"
)
def test_portable_trainings_end_in_the_same_bytes_on_different_processors(
    workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (workplace / "mlflow").mkdir()
    shutil.copyfile(ROOT / "mlflow/tuneline.env", workplace / "mlflow/tuneline.env")
    simulated = machines(tmp_path_factory.mktemp("machines"))
    for stage in ("finetune", "base"):
        editing.set_values(workplace / "params.yaml", {"compute.portable": False})
        apart = {trained(workplace, stage, simulated[name]) for name in ("this", "without AVX2")}
        assert len(apart) == 2
        editing.set_values(workplace / "params.yaml", {"compute.portable": True})
        # The base needs fewer of them: it computes with the same libraries.
        names = simulated if stage == "finetune" else ["this", list(simulated)[-1]]
        same = {name: trained(workplace, stage, simulated[name]) for name in names}
        assert len(set(same.values())) == 1, same
        said = files.read_json(workplace / "reports" / {"finetune": "training.json"}.get(stage, f"{stage}.json"))
        assert said["fingerprint"]
    editing.set_values(workplace / "params.yaml", {"finetune.nproc_per_node": 2})
    trained(workplace, "finetune", {})


@pytest.mark.slow
def test_what_this_file_calls_other_processors_computes_other_bits(tmp_path: Path) -> None:
    program = "import hashlib, torch; torch.manual_seed(0); x = torch.randn(300, 96); y = (x @ x.T).softmax(-1).log()\n"
    program += "print(hashlib.sha256(y.numpy().tobytes()).hexdigest())"

    def digest(variables: dict[str, str]) -> str:
        return subprocess.run(
            [sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True, check=True
        ).stdout

    simulated = machines(tmp_path)
    assert digest(simulated["this"]) != digest(simulated["without AVX2"])
    if "Intel's" in simulated:
        assert digest(simulated["Intel's"]) != digest(simulated["Intel's with AVX2"])
