"""compute.portable restricts every library that computes to one instruction set, or refuses in a sentence."""

from pathlib import Path

import pytest

from tuneline import instruction_set, params
from tuneline.errors import ParamsError, SetupError
from tuneline.modeling import hardware
from tuneline.params import editing


def test_a_restricted_environment_has_no_other_choice_of_instructions() -> None:
    callers = {"HOME": "/root", "MKL_ENABLE_INSTRUCTIONS": "AVX512", "ATEN_CPU_CAPABILITY": "default"}
    assert not instruction_set.is_restricted(callers)
    found = instruction_set.restricted(callers)
    assert found == {"HOME": "/root"} | instruction_set.PORTABLE
    assert instruction_set.is_restricted(found)
    assert instruction_set.chosen_by_hand(callers) == ["ATEN_CPU_CAPABILITY=default", "MKL_ENABLE_INSTRUCTIONS=AVX512"]


@pytest.mark.parametrize(
    ("machine", "sets", "said"),
    [
        ("x86_64", {"avx2", "fma", "avx512f"}, None),
        ("x86_64", {"avx", "fma"}, "this processor does not have avx2, which"),
        ("x86_64", set(), "this processor does not have avx2 and fma, which"),
        ("aarch64", {"asimd"}, "this processor is aarch64, and portable results need x86_64; set it to false"),
    ],
)
def test_a_processor_without_avx2_is_refused_in_a_sentence(machine: str, sets: set[str], said: str | None) -> None:
    problem = hardware.portable_problem(machine, sets)
    assert (problem is None) if said is None else (problem is not None and said in problem)


def test_portable_needs_the_processor_in_float32_and_a_restricted_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    place = tmp_path / "params.yaml"
    place.write_text(params_text, "utf-8")
    editing.set_values(place, {"compute.portable": True})
    compute = params.load(place).compute
    assert hardware.fingerprint(compute)[1:] == ["portable"]
    with pytest.raises(SetupError, match=r"^compute.portable: this process"):
        hardware.check(compute)
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    assert "MKL_ENABLE_INSTRUCTIONS=AVX2" in hardware.fingerprint(compute.model_copy(update={"portable": False}))
    editing.set_values(place, {"compute.precision": "bfloat16"})
    with pytest.raises(ParamsError, match=r"params.yaml:\d+: compute: portable does not fit precision bfloat16, which"):
        params.load(place)
