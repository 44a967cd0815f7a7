"""The speed of likelihood and of answers, compared with one row at a time and with lm-evaluation-harness.

    python benchmarks/evaluation.py [--rows 192] [--batch-size 32] [--max-new-tokens 48] [--repeats 3]
        [--single-rows 48] [--lm-eval PYTHON] [--only NAME,…]

Each case is a model with random weights. Its rows are definitions of functions of this Python, each with its docstring.
Likelihood is that of the docstring and the end of text after it; an answer is written greedily and has
`max_new_tokens` tokens. Each tool runs in its own process, in float32 and with the same number of threads, and the runs
alternate; the fastest counts. The time includes encoding and decoding, and no loading.

- tuneline: `evaluation.likelihood.score` and `evaluation.generation.generate`, as the stage `evaluate` calls them.
- one by one: plain transformers, one row per call of the model. It gets the first `single-rows` rows.
- lm-eval: the HF backend of lm-evaluation-harness, in the Python of `--lm-eval`, where `lm_eval[hf]` is installed.

It prints rows per second, and on how many rows the tools agree: a likelihood to 0.1 %, an answer to the letter.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from answering import CASES, ROOT, make

OURS, SINGLE, LM_EVAL = "tuneline", "one by one", "lm-eval"
_CASES = ("1 million parameters", "1 million, answers of all lengths", "99 million parameters")
_AGREES = 1e-3


def pairs(count: int) -> list[tuple[str, str]]:
    """Definitions of functions, and their docstrings."""
    found: list[tuple[str, str]] = []
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = file.read_text("utf-8", "replace")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                definition = "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])[-400:]
                found.append((definition + '\n    """', docstring[:400] + '"""'))
        if len(found) >= count:
            break
    return found[:count]


def measure_ours(folder: Path, rows: list[tuple[str, str]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The seconds and results of this project."""
    from tuneline.encoding.encode import encode_records
    from tuneline.evaluation import generation, likelihood
    from tuneline.modeling import models
    from tuneline.modeling.model_folder import stored_mode

    models.use_threads(arguments.threads)
    model, tokenizer = models.load(folder)
    began = time.perf_counter()
    records = [{"prompt": prompt, "completion": answer} for prompt, answer in rows]
    examples = [example for row in encode_records(tokenizer, records) for example in row]
    scored = likelihood.score(model, examples, max_length=2_048, batch_size=arguments.batch_size)
    middle = time.perf_counter()
    made = generation.generate(
        model,
        tokenizer,
        [prompt for prompt, _ in rows],
        mode=stored_mode(folder),
        max_new_tokens=arguments.max_new_tokens,
        batch_size=arguments.batch_size,
    )
    return {
        "likelihood": middle - began,
        "answers": time.perf_counter() - middle,
        "nll": [score.nll for score in scored],
        "texts": made,
    }


def measure_single(folder: Path, rows: list[tuple[str, str]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The seconds and results of plain transformers, one row per call."""
    import torch
    from torch.nn import functional
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(arguments.threads)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = rows[: arguments.single_rows]
    nll, texts = [], []
    with torch.inference_mode():
        began = time.perf_counter()
        for prompt, answer in rows:
            asked = tokenizer(prompt)["input_ids"]
            given = tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id]
            logits = model(torch.tensor([asked + given])).logits[0, len(asked) - 1 : -1]
            nll.append(functional.cross_entropy(logits, torch.tensor(given), reduction="sum").item())
        middle = time.perf_counter()
        for prompt, _ in rows:
            batch = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            output = model.generate(**batch, max_new_tokens=arguments.max_new_tokens, do_sample=False)
            texts.append(tokenizer.decode(output[0, batch["input_ids"].shape[1] :], skip_special_tokens=True))
    return {"likelihood": middle - began, "answers": time.perf_counter() - middle, "nll": nll, "texts": texts}


def run(who: str, folder: Path, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one tool in a process of its own."""
    if who == LM_EVAL:
        script = ROOT / "benchmarks/peers/lm_eval_hf.py"
        options = [arguments.batch_size, arguments.max_new_tokens, arguments.threads]
        command = [arguments.lm_eval, script, folder, data, *options]
    else:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", who, folder, data]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=os.environ | offline
    )
    return json.loads(done.stdout.splitlines()[-1])


def agreeing(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """On how many rows two tools agree."""
    count = len(theirs["nll"])
    likelihoods = sum(
        abs(one - other) <= _AGREES * abs(other) for one, other in zip(ours["nll"], theirs["nll"], strict=False)
    )
    answers = sum(map(str.__eq__, ours["texts"], theirs["texts"]))
    return f"{likelihoods} and {answers} of {count}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--single-rows", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lm-eval", type=Path, metavar="PYTHON", help="a Python where lm_eval[hf] is installed")
    parser.add_argument("--only", help="cases whose names hold one of these, with commas")
    parser.add_argument("--measure", nargs=3, metavar=("WHO", "FOLDER", "DATA"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        who, folder, data = arguments.measure
        measure = measure_ours if who == OURS else measure_single
        print(json.dumps(measure(Path(folder), json.loads(Path(data).read_text("utf-8")), arguments)))
        return
    if arguments.lm_eval is None:
        print("lm-eval is left out; name a Python that has it: --lm-eval PYTHON\n", file=sys.stderr)
    tools = [OURS, SINGLE, *([LM_EVAL] if arguments.lm_eval else [])]
    wanted = (arguments.only or "").split(",")
    print("| case | tool | likelihood, rows/s | ratio | answers, rows/s | ratio | agrees with tuneline |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in _CASES:
        if not any(part in name for part in wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
            folder, data = Path(temporary) / "model", Path(temporary) / "rows.json"
            make(folder, CASES[name])
            data.write_text(json.dumps(pairs(arguments.rows)), "utf-8")
            found: dict[str, list[dict[str, Any]]] = {who: [] for who in tools}
            for _ in range(arguments.repeats):
                for who in tools:
                    found[who].append(run(who, folder, data, arguments))
        speeds = {
            who: {
                what: len(results[0]["nll"]) / min(result[what] for result in results)
                for what in ("likelihood", "answers")
            }
            for who, results in found.items()
        }
        for who in tools:
            cells = [
                cell
                for what in ("likelihood", "answers")
                for cell in (f"{speeds[who][what]:.1f}", f"{speeds[OURS][what] / speeds[who][what]:.1f}")
            ]
            print(f"| {name} | {who} | {' | '.join(cells)} | {agreeing(found[OURS][0], found[who][0])} |", flush=True)


if __name__ == "__main__":
    main()
