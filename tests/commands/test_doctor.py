"""What is recommended follows from what was measured, and what is broken is said with exit 1."""

from pathlib import Path

import pyarrow as pa
import pytest
from projects import Project

from tuneline.commands import doctor
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm


def test_more_threads_are_recommended_only_if_they_are_faster() -> None:
    def threads(times: dict[int, float]) -> str:
        return doctor.recommended(times, set(), 0)["compute.threads"][0]

    assert threads({1: 1.0, 2: 0.55, 4: 0.54}) == "2"
    assert threads({1: 1.0, 2: 1.9}) == "1"
    assert threads({1: 1.0, 2: 0.95, 4: 0.5}) == "4"
    assert doctor.recommended({1: 1.0}, {"amx_bf16"}, 0)["compute.precision"][0] == "bfloat16"
    assert doctor.recommended({1: 1.0}, {"avx2"}, 0)["compute.precision"][0] == "float32"


def test_doctor_repairs_dvc_files_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (".dvc/tmp/rwlock", ".dvc/config", "mlflow/tuneline.env"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    said = ".dvc/tmp/rwlock: a write was interrupted; it is removed, because no dvc is running"
    assert doctor.repaired() == [doctor.Finding(f"repaired: {said}")]
    assert doctor.repaired() == []


def test_doctor_reports_that_git_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (".git", "dvc.lock", "mlflow/tuneline.env", ".dvc/config"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    [finding] = doctor.repaired()
    assert finding.is_broken
    assert "git" in finding.text


def test_doctor_measures_no_answers_with_the_data_of_another_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "mlflow/tuneline.env", "models/base/config.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(params_text if name == "params.yaml" else "{}", "utf-8")
    columns = {"id": ["0"], "source": ["a:1"], "cluster": ["0"], "prompt": ["q"], "chosen": ["a"], "rejected": ["b"]}
    files.write_parquet(Path("data/clean/test/part-00000.parquet"), pa.table(columns))
    files.write_json(Path("data/clean/dataset.json"), RecordForm("preference").as_json())
    [finding] = doctor.answers()
    assert (
        finding.text == "evaluate.generation_rows: not measured yet; run `make run` first, which makes data and a base"
    )


def test_doctor_recommends_values_and_names_what_is_broken(project: Project) -> None:
    sound = project.here("doctor")
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert "recommended: compute.threads: " in sound.stdout
    assert "OMP_WAIT_POLICY=PASSIVE, in force" in sound.stdout
    broken = project.here("doctor", OMP_WAIT_POLICY="ACTIVE")
    assert broken.returncode == 1
    assert "broken: OMP_WAIT_POLICY is ACTIVE, but mlflow/tuneline.env sets PASSIVE" in broken.stdout
