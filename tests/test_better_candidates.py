"""The month's circle with own rows, in which the candidate is made better: searched, with variants, and merged."""

import importlib.util
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from projects import Project, copy_project

from tuneline.core import files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("optuna", "prefect_dask", "glitchlings")),
        reason="needs make setup EXTRAS=search,augment",
    ),
]
MODEL = "tickets"
REPLIES = {
    "parcel late courier address tracking gone": "We look for your parcel.",
    "return size wrong colour refund box": "Your refund code is on its way.",
    "invoice twice paid card amount discount": "We check your payment.",
    "screen cracked hot noise charging dead": "A repair is booked.",
}
WHERE = ["izmir", "ankara", "bursa", "adana", "konya", "van", "samsun", "trabzon", "mersin", "urfa"]
COMPARISON = "\nreport:\n  without: {plain: [augment]}\n"
RECORDS = ("data/clean/train", "data/clean/validation", "data/clean/test")


def ticket(n: int) -> dict[str, str]:
    """A question whose words tell the reply; different for each `n`."""
    rng = random.Random(f"ticket {n}")
    words, reply = rng.choice(list(REPLIES.items()))
    words = " ".join(rng.sample(words.split(), 3))
    return {"prompt": f"{words} {rng.choice(WHERE)} {rng.choice(WHERE)} {n * 7919 % 10_000}", "completion": reply}


def add_month(folder: Path, start: int, stop: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(ticket(n)) + "\n" for n in range(start, stop))
    (folder / f"export-{start:04d}.jsonl").write_text(text, "utf-8")


def told(project: Project, *arguments: str) -> str:
    done = project.tuneline(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(project: Project) -> str:
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(project: Project, version: str) -> dict[str, Any]:
    return json.loads(project.tuneline("show", version, "--json").stdout)


def decision(project: Project) -> dict[str, Any]:
    return files.read_json(project.root / "reports/gate.json")


def make_champion(project: Project, version: str) -> None:
    """Set the alias as a person does in MLflow's page."""
    client = mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow/store/mlflow.db")
    client.set_registered_model_alias(MODEL, "champion", version)


def ids(project: Project, *folders: str) -> set[str]:
    tables = (files.read_parquet(project.root / folder, ["id"]) for folder in folders)
    return {row for table in tables for row in table["id"].to_pylist()}


def parents(project: Project, name: str) -> set[str]:
    table = files.read_parquet(project.root / "data/clean-augmented" / name, ["parent"])
    return set(table["parent"].to_pylist())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose version 1 is champion, and that has got the rows of the second month."""
    made = copy_project(tmp_path_factory.mktemp("months") / "project")
    (made.root / ".venv").symlink_to(sys.prefix)
    rows = made.root.parent / MODEL
    add_month(rows, 0, 300)
    told(made, "use", str(rows))
    # The models are so small that only the direction of the rules can be tested.
    rules = [
        {"metric": "bits_per_byte", "direction": "lower", "versus": versus, "margin": -9.0}
        for versus in ("base", "champion")
    ]
    made.set(finetune__num_train_epochs=4.0, finetune__learning_rate=0.002, gate__rules=rules)
    (made.root / "data/checks.yaml").write_text("")
    assert f"{MODEL} version 1, passed" in run(made)
    make_champion(made, "1")
    add_month(rows, 300, 400)
    told(made, "use", str(rows))
    return made


def test_a_searched_candidate(project: Project) -> None:
    params = project.root / "params.yaml"
    before = params.read_text("utf-8")
    # The space of the repository holds what `use` has set.
    said = told(project, "search", "--trials", "3")
    best = re.search(r"best of 3: trial \d, eval_loss [\d.]+ \(today's values: [\d.]+\)", said)
    assert best, said
    assert params.read_text("utf-8") == before
    assert "comparison 1 in the ledger" in (project.root / "reports/search.html").read_text("utf-8")
    told(project, "search", "--apply")
    changed = {line for line in params.read_text("utf-8").splitlines() if line not in before.splitlines()}
    assert all("#" in line for line in changed if "num_train_epochs" in line), "the comment of a value is gone"

    said = run(project)
    assert f"{MODEL} version 2, passed" in said
    # What was searched is what is measured: the weights of the best trial, and not a second training.
    assert re.search(r"version 2, passed; (rebuilt: check|restored from DVC's cache: finetune)", said), said
    made = decision(project)
    assert made["champion"]["version"] == "1"
    assert made["champion"]["rows"] > 0
    # The comparison of the search has used the same test rows, so this one is the second.
    assert made["ledger"]["comparison"] == 2
    make_champion(project, "2")


def test_a_candidate_with_variants_is_compared_with_the_same_training_without_them(project: Project) -> None:
    held_out = ids(project, *RECORDS[1:])
    noise = {name: {"weight": 1.0, "p": 0.2} for name in ("word_dropout", "word_swap")}
    project.set(data__augment={"noise": noise})
    params = project.root / "params.yaml"
    params.write_text(params.read_text("utf-8") + COMPARISON, "utf-8")
    searched = files.sha256_file(project.root / "models/finetuned/model.safetensors")
    said = run(project)
    assert f"{MODEL} version 3, passed" in said
    assert decision(project)["champion"]["version"] == "2"
    assert ids(project, *RECORDS[1:]) == held_out
    for name in noise:
        counts = files.read_json(project.root / f"reports/augmented/{name}.json")
        variants = ids(project, f"data/clean-augmented/{name}")
        assert 0 < len(variants) == counts["rows_out"] == counts["rows_in"] - sum(counts["dropped"].values())
        assert parents(project, name) <= ids(project, RECORDS[0])
        assert variants.isdisjoint(ids(project, *RECORDS))
        assert name in (project.root / "reports/index.html").read_text("utf-8")
    # The training without the variants is that of version 2, byte for byte.
    assert files.sha256_file(project.root / "models/finetuned-without/plain/model.safetensors") == searched
    assert files.sha256_file(project.root / "models/finetuned/model.safetensors") != searched
    compared = decision(project)["without"]["plain"]
    assert compared["left_out"] == sorted(noise)
    assert compared["versus"]["bits_per_byte"]["low"] <= compared["versus"]["bits_per_byte"]["high"]


def test_a_merged_candidate_becomes_champion(project: Project) -> None:
    params = project.root / "params.yaml"
    measured = json.loads(project.tuneline("ensemble", "2", "3", "--json").stdout)
    assert measured["versions"] == ["2", "3"]
    assert set(measured["metrics"]) == {"version 2", "version 3", "uniform", "fitted"}
    # A merged model that is taken as it is has no training to compare with, which is said before anything is written.
    refused = project.tuneline("merge", "2", "3", "--apply")
    assert refused.returncode == 1
    assert "report.without: compares with trainings without some rows" in refused.stderr
    assert not (project.root / "models/merge").exists()
    params.write_text(params.read_text("utf-8").replace(COMPARISON, ""), "utf-8")
    told(project, "merge", "2", "3", "--apply")
    said = run(project)
    assert f"{MODEL} version 4, passed" in said
    made = decision(project)
    assert made["champion"]["version"] == "2"
    # Both parents were trained with this split, so no test row is left out.
    assert made["champion"]["rows"] == len(ids(project, RECORDS[2]))
    assert shown(project, "4")["base"]["parents"] == ["2", "3"]
    make_champion(project, "4")
    told(project, "verify")
    assert "identical" in told(project, "reproduce", "4")
    assert f"{MODEL} version 4" in told(project, "generate", "parcel late tracking")


def test_the_next_month_goes_on_from_the_merged_champion(project: Project) -> None:
    held_out = ids(project, *RECORDS[1:])
    rows = project.root.parent / MODEL
    add_month(rows, 400, 500)
    assert "finetune.num_train_epochs is 0" in told(project, "use", str(rows))
    project.set(finetune__num_train_epochs=1.0)
    said = run(project)
    assert f"{MODEL} version 5, passed" in said
    made = decision(project)
    assert made["champion"]["version"] == "4"
    assert made["champion"]["rows"] > 0
    assert held_out.isdisjoint(ids(project, RECORDS[0])), "a row that was held out is trained on"
    assert shown(project, "5")["base"]["parents"] == ["2", "3"]
    # New rows and old ones.
    assert shown(project, "5")["data"]["train_rows"] > shown(project, "4")["data"]["train_rows"]
