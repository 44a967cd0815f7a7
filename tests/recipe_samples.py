"""For each recipe a small sample of its rows, and a base with random weights of a family that a user may bring."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS = 240


def words(seed: object, count: int = 14) -> str:
    """Words that no other seed gives."""
    rng = random.Random(str(seed))
    return " ".join("".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(3, 8))) for _ in range(count))


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


def conversation(n: int) -> dict[str, Any]:
    call = {"name": "find_order", "arguments": {"number": str(n)}}
    turns = [
        ("human", words(f"asked {n}")),
        ("function_call", json.dumps(call)),
        ("observation", json.dumps({"state": words(f"state {n}", 3)})),
        ("gpt", words(f"answered {n}")),
    ]
    tools = [{"type": "function", "function": {"name": "find_order", "parameters": {"type": "object"}}}]
    return {
        "conversations": [{"from": who, "value": text} for who, text in turns],
        "tools": json.dumps(tools),
        "customer": f"K{n % 80}",
    }


def poem(n: int) -> dict[str, Any]:
    rng = random.Random(f"poem {n}")

    def characters(count: int) -> str:
        return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(count))

    verses = [f"{characters(5)}，{characters(5)}。" for _ in range(4)]
    return {"title": characters(4), "author": characters(2), "paragraphs": verses}


def question(n: int) -> dict[str, Any]:
    context = words(f"context {n // 2}", 60)
    return {"context": context, "question": words(f"question {n}", 8), "answers": {"text": [words(f"answer {n}", 4)]}}


SAMPLES: dict[str, Callable[[], dict[str, str]]] = {
    "classification-intent": lambda: {
        "intents.csv": table(["text", "intent"], [[words(n, 9), f"intent_{n % 6}"] for n in range(ROWS)])
    },
    "classification-sentiment": lambda: {
        f"{label}.txt": "".join(words(f"{label} {n}") + "\n" for n in range(ROWS // 2)) for label in ("pos", "neg")
    },
    "continued-pretraining": lambda: {
        f"part{n % 3}/{n}.txt": "\n\n".join(words(f"{n} {m}", 40) for m in range(3)) for n in range(ROWS)
    },
    "dialogue": lambda: {"chats.jsonl": lines([conversation(n) for n in range(ROWS)])},
    "instruction-tuning": lambda: {
        "instructions.jsonl": lines(
            [
                {"instruction": words(n), "input": words(f"in {n}") if n % 2 else "", "output": words(f"out {n}")}
                for n in range(ROWS)
            ]
        )
    },
    "poems-chinese": lambda: {"poems.json": json.dumps([poem(n) for n in range(ROWS)], ensure_ascii=False)},
    "preference": lambda: {
        "preferences.jsonl": lines(
            [{"prompt": words(n), "chosen": words(f"+ {n}"), "rejected": words(f"- {n}")} for n in range(ROWS)]
        )
    },
    "question-answering": lambda: {"questions.jsonl": lines([question(n) for n in range(ROWS)])},
    "translation": lambda: {
        "sentences.jsonl": lines(
            [{"translation": {"de": words(f"de {n}"), "en": words(f"en {n}")}} for n in range(ROWS)]
        )
    },
}


FAMILIES = {
    "classification-intent": "llama",
    "classification-sentiment": "bert",
    "continued-pretraining": "llama",
    "dialogue": "qwen3",
    "instruction-tuning": "llama",
    "preference": "llama",
    "question-answering": "gpt2",
    "translation": "qwen3",
}
"""Of the bases; a recipe that is not named pretrains its own."""

_TOKENS = 2048
"""That a base sees at once: as many as the longest recipe wants."""


def make_base(family: str, texts: list[str], folder: Path) -> None:
    """A model folder: random weights, and a tokenizer that was trained on `texts`."""
    # Seconds that the tests of params and pages need not spend.
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from tuneline.training import models, pretraining

    tokenizer = pretraining.train_tokenizer(texts, 300, _TOKENS)
    shape: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": _TOKENS}
    if family != "gpt2":
        shape |= {"intermediate_size": 48}
    if family in ("llama", "qwen3"):
        shape |= {"num_key_value_heads": 2, "head_dim": 16}
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id")}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **shape, **ids)
    if family == "bert":
        AutoModel.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        models.save(AutoModelForCausalLM.from_config(config), tokenizer, folder)
