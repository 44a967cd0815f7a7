"""The speed of generation, compared with plain transformers: same model, prompts, batches and answers.

    python benchmarks/answering.py [--rows 192] [--batch-size 32] [--max-new-tokens 48] [--repeats 3] [--only NAME,…]

Each case is a model with random weights and prompts from the source of this Python. It is answered by
`tuneline.evaluation.generation.generate`, as `tuneline evaluate` calls it, and by a loop of `model.generate` over
left-padded batches in the order of the prompts. Each runs in its own process, in float32 and with the same number of
threads. The runs alternate, and the fastest counts. The time includes encoding the prompts and decoding the answers.
The benchmark needs no network. It prints a table in Markdown.
"""

import argparse
import ast
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS, PLAIN = "tuneline", "plain"

_SMALL: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "vocab_size": 4_000,
}
CASES: dict[str, dict[str, Any]] = {
    "1 million parameters": _SMALL,
    "1 million, answers of all lengths": {**_SMALL, "ends": True},
    "1 million, saved with use_cache: false": {**_SMALL, "use_cache": False},
    "1 million, conversations": {**_SMALL, "chat": True},
    "99 million parameters": {
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 12,
        "vocab_size": 49_152,
    },
}
_CHATML = (
    "{% for message in messages %}{{ '<|p|>' + message.role + '\\n' + message.content + '<|e|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|p|>assistant\\n' }}{% endif %}"
)


def prompts(count: int) -> list[str]:
    """Definitions from the standard library, up to their docstring."""
    found: list[str] = []
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        lines = file.read_text("utf-8", "replace").splitlines()
        found += [
            "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])[-400:] + '\n    """'
            for node in ast.walk(ast.parse("\n".join(lines)))
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
        ]
        if len(found) >= count:
            break
    return found[:count]


def make(folder: Path, case: dict[str, Any]) -> None:
    """Write the model of a case."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tuneline.modeling import models

    shape = {name: value for name, value in case.items() if name not in ("ends", "use_cache", "chat")}
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        prompts(3_000),
        trainers.BpeTrainer(
            vocab_size=4_000, special_tokens=["<|e|>", "<|p|>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|e|>", pad_token="<|p|>")
    if case.get("chat"):
        tokenizer.chat_template = _CHATML
    torch.manual_seed(0)
    heads = {"num_attention_heads": shape["hidden_size"] // 32, "num_key_value_heads": shape["hidden_size"] // 32}
    model = LlamaForCausalLM(
        LlamaConfig(max_position_embeddings=2_048, eos_token_id=0, pad_token_id=1, bos_token_id=None, **shape, **heads)
    )
    if case.get("ends"):
        with torch.no_grad():
            # Logits far enough apart for answers to differ, and an end that is often the likeliest.
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(8)
            model.lm_head.weight[0] *= 2.5
    models.save(model, tokenizer, folder, "chat" if case.get("chat") else "plain")
    if case.get("use_cache") is False:
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"use_cache": False}))


def answer(who: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Answer all prompts in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tuneline.evaluation import generation
    from tuneline.modeling import models
    from tuneline.modeling.model_folder import stored_mode

    asked = prompts(arguments.rows)
    mode = stored_mode(folder)
    models.use_threads(arguments.threads)
    if who == OURS:
        model, tokenizer = models.load(folder)
        began = time.perf_counter()
        made = generation.generate(
            model,
            tokenizer,
            asked,
            mode=mode,
            max_new_tokens=arguments.max_new_tokens,
            batch_size=arguments.batch_size,
        )
        return {"seconds": time.perf_counter() - began, "answers": made}
    plain: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    bare: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    made = []
    began = time.perf_counter()
    for start in range(0, len(asked), arguments.batch_size):
        texts: list[Any] = asked[start : start + arguments.batch_size]
        if mode == "chat":
            turns = [[{"role": "user", "content": text}] for text in texts]
            texts = plain.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        batch = plain(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        with torch.inference_mode():
            output = bare.generate(**batch, max_new_tokens=arguments.max_new_tokens, do_sample=False)
        made += plain.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return {"seconds": time.perf_counter() - began, "answers": made}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="cases whose names hold one of these, with commas")
    parser.add_argument("--answer", nargs=2, metavar=("WHO", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        who, folder = arguments.answer
        print(json.dumps(answer(who, Path(folder), arguments)))
        return
    wanted = (arguments.only or "").split(",")
    print(f"| case | {PLAIN}, s | {OURS}, s | speed of ours | same answers |\n|---|---:|---:|---:|---:|")
    for name, case in CASES.items():
        if not any(part in name for part in wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
            folder = Path(temporary) / "model"
            make(folder, case)
            best: dict[str, dict[str, Any]] = {}
            for _ in range(arguments.repeats):
                for who in (PLAIN, OURS):
                    command = [sys.executable, __file__, *sys.argv[1:], "--answer", who, str(folder)]
                    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
                    found = json.loads(ran.stdout.splitlines()[-1])
                    if who not in best or found["seconds"] < best[who]["seconds"]:
                        best[who] = found
        seconds = {who: found["seconds"] for who, found in best.items()}
        same = sum(map(str.__eq__, best[PLAIN]["answers"], best[OURS]["answers"]))
        print(
            f"| {name} | {seconds[PLAIN]:.2f} | {seconds[OURS]:.2f} | {seconds[PLAIN] / seconds[OURS]:.2f} "
            f"| {same} of {arguments.rows} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
