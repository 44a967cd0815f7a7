"""The whole circle: a champion labels texts, the next model is trained on them too, and the report compares."""

import json
import random
from pathlib import Path

import pytest
from projects import TINY, copy_project

from tuneline.core import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
NEUTRAL = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe") for b in ("ba", "do", "fi", "gu")]
SIGNS = {"good": ["splendid", "superb", "lovely"], "bad": ["awful", "dreadful", "broken"]}


def review(n: int) -> dict[str, str]:
    rng = random.Random(f"review {n}")
    label = rng.choice(sorted(SIGNS))
    words = rng.choices(NEUTRAL, k=14)
    for _ in range(2):
        words[rng.randrange(14)] = rng.choice(SIGNS[label])
    return {"text": " ".join(words), "label": label}


def test_what_the_champion_labels_is_trained_compared_and_erased(tmp_path: Path) -> None:
    values = {key: value for key, value in TINY.items() if key != "gate.rules"}
    project = copy_project(tmp_path / "project", values)
    old, new = tmp_path / "reviews.jsonl", tmp_path / "new.jsonl"
    old.write_text("".join(json.dumps(review(n)) + "\n" for n in range(400)))
    new.write_text("".join(json.dumps({"text": review(n)["text"]}) + "\n" for n in range(350, 550)))
    assert project.tuneline("use", str(old)).returncode == 0
    project.set(finetune__num_train_epochs=6.0, finetune__learning_rate=0.003)
    first = project.flow()
    assert first.returncode == 0, first.stdout + first.stderr
    promoted = project.tuneline("promote", "1", "--override", "a test")
    assert promoted.returncode == 0, promoted.stderr
    alone = files.sha256_file(project.root / "models/finetuned/model.safetensors")

    ran = project.tuneline("pseudolabel", str(new), "--confidence", "0.6", "--mix", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    # Fifty of the texts are in the raw set.
    known = sum(count for reason, count in told["dropped"].items() if reason.startswith(("equal-", "near-")))
    assert known == 50
    assert told["labelled_by"]["weights"] == {"model.safetensors": alone}
    assert told["ece"] is not None

    with (project.root / "params.yaml").open("a") as file:
        file.write("report:\n  without: {plain: [mixture]}\n")
    second = project.flow()
    assert second.returncode == 0, second.stdout + second.stderr
    assert "finetune_without@plain, evaluate_without@plain" in second.stdout
    # The training without the set is that of version 1.
    assert files.sha256_file(project.root / "models/finetuned-without/plain/model.safetensors") == alone
    assert files.sha256_file(project.root / "models/finetuned/model.safetensors") != alone
    compared = files.read_json(project.root / "reports/gate.json")["without"]["plain"]
    assert compared["left_out"] == ["pseudo"]
    assert set(compared["versus"]["accuracy"]) == {"difference", "low", "high"}
    page = (project.root / "reports/index.html").read_text("utf-8")
    assert "With and without" in page
    assert "labelled by reviews version 1 from confidence 0.6 on" in page
    shown = project.tuneline("show", "2").stdout
    assert "pseudo (mixed in, labelled by reviews version 1 from confidence 0.6 on)" in shown
    assert "minus the training without some rows (plain): " in shown
    assert "rebuilt: nothing" in project.flow().stdout

    row = json.loads((project.root / "data/mixture/pseudo/pseudo-labels.jsonl").read_text().splitlines()[0])
    sought = project.tuneline("forget", "--group", f"text={row['text']}", "--dry-run")
    assert "data/mixture/pseudo: 1 row to erase" in sought.stdout, sought.stdout + sought.stderr
    # Without the comparison its stages are gone, and the candidate's stay as they are.
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("report:\n  without: {plain: [mixture]}\n", ""))
    assert "rebuilt: nothing" in project.flow().stdout
