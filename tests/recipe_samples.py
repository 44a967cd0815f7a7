"""For each recipe a small sample of its rows, and a base with random weights of a family that a user may bring."""

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROWS = 240


def words(seed: object, count: int = 14) -> str:
    """Words of this seed alone."""
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

    from tuneline.modeling import models
    from tuneline.pretraining import pretrain

    tokenizer = pretrain.train_tokenizer(texts, 300, _TOKENS)
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


# Rows that a small model can learn from: made of few words by simple rules, so that what the rows have in common can be
# learned from some hundred of them, and no row is nearly another.

_COLOURED = {
    "red": "rote", "blue": "blaue", "green": "grüne", "yellow": "gelbe", "white": "weiße", "black": "schwarze",
    "small": "kleine", "large": "große", "old": "alte", "new": "neue", "heavy": "schwere", "light": "leichte",
    "round": "runde", "square": "eckige", "warm": "warme", "cold": "kalte",
}  # fmt: skip
_ADJECTIVES = tuple(_COLOURED)
_THINGS = (
    "lamp", "chair", "table", "ladder", "bucket", "hammer", "kettle", "basket", "mirror", "carpet", "bottle", "candle",
    "drawer", "window", "engine", "filter", "pump", "valve", "battery", "cable",
)  # fmt: skip
_PLACES = (
    "kitchen", "garden", "cellar", "attic", "garage", "hall", "office", "workshop", "stable", "tower",
)  # fmt: skip
_NAMES = (
    "Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hanna", "Igor", "Julia", "Karl", "Lena", "Martin",
    "Nora", "Otto", "Paula",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ANIMALS = {
    "dog": "Hund", "cat": "Katze", "horse": "Pferd", "cow": "Kuh", "hen": "Henne", "fish": "Fisch", "bird": "Vogel",
    "mouse": "Maus", "bear": "Bär", "fox": "Fuchs", "wolf": "Wolf", "goat": "Ziege",
}  # fmt: skip
_DOES = {
    "sleeps": "schläft", "runs": "läuft", "waits": "wartet", "eats": "frisst", "plays": "spielt", "sings": "singt",
    "jumps": "springt", "drinks": "trinkt",
}  # fmt: skip
_WHERE = {
    "in the garden": "im Garten", "in the house": "im Haus", "by the river": "am Fluss", "in the forest": "im Wald",
    "on the roof": "auf dem Dach", "under the tree": "unter dem Baum", "behind the wall": "hinter der Mauer",
    "near the bridge": "bei der Brücke",
}  # fmt: skip
_WHEN = {
    "today": "heute", "at night": "in der Nacht", "every day": "jeden Tag", "in spring": "im Frühling",
    "after lunch": "nach dem Mittag", "before sunrise": "vor Sonnenaufgang",
}  # fmt: skip


class _Writer:
    """Draws words by a seed: the same row for the same number."""

    def __init__(self, kind: str, n: int) -> None:
        self._rng = random.Random(f"{kind} {n}")

    def __call__(self, *choices: str) -> str:
        return self._rng.choice(choices)

    def one_of(self, choices: list[tuple[str, str, str]]) -> tuple[str, str, str]:
        return self._rng.choice(choices)

    def several(self, of: Sequence[str], count: int) -> list[str]:
        return self._rng.sample(of, count)

    def thing(self) -> str:
        return f"{self(*_ADJECTIVES)} {self(*_THINGS)}"

    def fact(self) -> tuple[str, str, str]:
        """Who keeps what where."""
        return self(*_NAMES), self.thing(), self(*_PLACES)


def learnable_instruction(n: int) -> dict[str, str]:
    w = _Writer("instruction", n)
    one, other, (who, thing, place), day = w.thing(), w.thing(), w.fact(), w(*_DAYS)
    asked, given, answer = w.one_of(
        [
            (
                "Make a sentence of these words.",
                f"{who}, {one}, {place}",
                f"{who} puts the {one} into the {place}.",
            ),
            (
                "Say it politely.",
                f"{who}, bring the {thing} to the {place}!",
                f"Dear {who}, would you please bring the {thing} to the {place}?",
            ),
            (
                "Turn the sentence into a question.",
                f"{who} needs the {one} on {day}.",
                f"Does {who} need the {one} on {day}?",
            ),
            (
                "Write a short note about this.",
                f"{one}, {other}, {day}",
                f"Note for {day}: look after the {one} and the {other}.",
            ),
            (
                "Answer with yes and repeat the matter.",
                f"Is the {one} in the {place}?",
                f"Yes, the {one} is in the {place}.",
            ),
        ]
    )
    return {"instruction": asked, "input": given, "output": answer}


def learnable_conversation(n: int) -> dict[str, Any]:
    w = _Writer("conversation", n)
    number, thing, state = str(1000 + n * 7), w.thing(), w("sent", "delivered", "waiting", "lost")
    day, (name, other, place) = w(*_DAYS), w.fact()
    asked = w(
        f"Hello, this is {name}. Where is my {thing}, order {number}?",
        f"I ordered a {thing} on {day}. My number is {number}, when will it come?",
        f"Good morning, {name} here. Order {number} for the {place}, the {thing}: is it lost?",
        f"My {thing} should have come to the {place}. Please look for order {number}, {name}.",
    )
    greeting = w(f"Dear {name},", f"Hello {name},", f"Thank you for asking, {name}:", f"{name}, I have looked it up:")
    answer = {
        "sent": w(f"the {thing} is on its way to the {place}.", f"expect the {thing} on {day}."),
        "delivered": w(f"we left the {thing} in the {place} on {day}.", f"the {thing} was delivered on {day}."),
        "waiting": w(f"the {thing} waits in our {place}.", f"we will send the {thing} on {day}."),
        "lost": w(f"the {thing} was lost, I am sorry.", f"a new {thing} will come on {day}, as yours was lost."),
    }[state]
    closing = w(
        f"Do you need a {other}, too?",
        f"The {other} comes later.",
        f"Please keep the {place} open on {day}.",
        f"Write again on {w(*_DAYS)} if it is not there.",
    )
    call = {"name": "find_order", "arguments": {"number": number}}
    tools = [{"type": "function", "function": {"name": "find_order", "parameters": {"type": "object"}}}]
    turns = [
        ("human", asked),
        ("function_call", json.dumps(call)),
        ("observation", json.dumps({"state": state, "day": day})),
        ("gpt", f"{greeting} {answer} {closing}"),
    ]
    return {
        "conversations": [{"from": who, "value": text} for who, text in turns],
        "tools": json.dumps(tools),
        "customer": f"K{n % 300}",
    }


_IMAGES = (
    "明月", "清風", "白雲", "青山", "流水", "落花", "孤舟", "寒江", "秋雨", "春草", "長安", "故人", "歸雁", "夕陽",
    "古寺", "空林", "飛鳥", "疏鐘", "遠客", "楊柳", "江南", "殘雪", "高樓", "玉笛",
)  # fmt: skip
_BETWEEN = ("照", "入", "過", "聞", "對", "隨", "滿", "生", "落", "望")


def learnable_poem(n: int) -> dict[str, Any]:
    w = _Writer("poem", n)

    def verse() -> str:
        one, other = w.several(_IMAGES, 2)
        return f"{one}{w(*_BETWEEN)}{other}"

    title, author = "".join(w.several(_IMAGES, 2)), w("李白", "杜甫", "王維", "孟浩然")
    return {"title": title, "author": author, "paragraphs": [f"{verse()}，{verse()}。" for _ in range(2)]}


def learnable_question(n: int) -> dict[str, Any]:
    w = _Writer("question", n // 2)
    facts = [w.fact() for _ in range(4)]
    context = " ".join(f"{who} keeps the {thing} in the {place}." for who, thing, place in facts)
    who, thing, place = facts[n % 2]
    question, answer = w(
        f"Where does {who} keep the {thing}?|{who} keeps the {thing} in the {place}.",
        f"Who keeps the {thing} in the {place}?|The {thing} in the {place} is kept by {who}.",
        f"What does {who} keep in the {place}?|In the {place} {who} keeps the {thing}.",
    ).split("|")
    return {"context": context, "question": question, "answers": {"text": [answer]}}


def learnable_translation(n: int) -> dict[str, Any]:
    w = _Writer("translation", n)
    german, english = [], []
    for join in ("", "and ")[: 1 + n % 2 + 1]:
        adjective, animal, does = w(*_COLOURED), w(*_ANIMALS), w(*_DOES)
        where, when = w(*_WHERE), w(*_WHEN)
        english.append(f"{join}the {adjective} {animal} {does} {where} {when}")
        german.append(
            f"{'und ' * bool(join)}{_COLOURED[adjective]} {_ANIMALS[animal]} {_DOES[does]} {_WHERE[where]} "
            f"{_WHEN[when]}"
        )
    return {"translation": {"de": " ".join(german), "en": " ".join(english)}}


_CUES = {
    "pos": (
        "wonderful", "excellent", "delighted", "perfect", "lovely", "reliable", "quick", "friendly", "recommended",
        "thankful",
    ),
    "neg": (
        "broken", "terrible", "disappointed", "useless", "dirty", "unreliable", "slow", "rude", "returned", "refunded",
    ),
}  # fmt: skip


def learnable_review(label: str, n: int) -> str:
    w = _Writer(f"review {label}", n)
    first, second, third = w.several(_CUES[label], 3)
    return " ".join(
        w.several(
            [
                f"I bought the {w.thing()} on {w(*_DAYS)}.",
                f"It stands in the {w(*_PLACES)} now, {first}.",
                f"{w(*_NAMES)} says it is {second}.",
                f"All in all {third}, the {w(*_THINGS)} too.",
                f"It came with a {w.thing()}.",
            ],
            5,
        )
    )


_INTENTS = {
    "card_lost": ("I lost my card", "my card was stolen", "please block the card", "the card is gone"),
    "change_address": ("I have moved", "my new address", "send letters to another street", "we live elsewhere now"),
    "fees": ("what does it cost", "how high are the fees", "why was I charged", "the price of a transfer"),
    "balance": ("how much is on my account", "show me the balance", "what is left this month", "my savings"),
    "loan": ("I want to borrow money", "a loan for a house", "credit for a car", "what interest do I pay"),
    "opening_hours": ("when do you open", "are you closed today", "until when is the branch open", "your hours"),
}


def learnable_intent(n: int) -> tuple[str, str]:
    w = _Writer("intent", n)
    intent = list(_INTENTS)[n % len(_INTENTS)]
    asked = w(*_INTENTS[intent])
    text = w(
        f"{w('Hello', 'Good day', 'Hi')}, {w(*_NAMES)} here, {asked}, it is about the {w.thing()} in the {w(*_PLACES)}",
        f"On {w(*_DAYS)} at the {w(*_PLACES)}: {asked}; {w(*_NAMES)} needs to know it because of a {w.thing()}",
        f"{w(*_NAMES)} and I have a {w.thing()} from {w(*_DAYS)}, so {asked}, thank you",
    )
    return text, intent


def learnable_preference(n: int) -> dict[str, str]:
    w = _Writer("preference", n)
    who, thing, place = w.fact()
    asked = w(
        f"{who} asks where the {thing} is.",
        f"{who} wants the {thing} in the {place}.",
        f"{who} is angry about the {thing}.",
    )
    kind = w(
        f"Thank you for asking, {who}. The {thing} is in the {place}, and I will gladly help you with it.",
        f"I am sorry, {who}. Please let me look after the {thing} in the {place} for you.",
        f"Of course, {who}. I will gladly bring the {thing} to the {place}.",
    )
    rude = w(
        f"Find the {thing} yourself, {who}. I do not care where it is, look in the {place} and stop asking me.",
        f"No. The {thing} is not my business, {who}, and neither is the {place}.",
        f"What do you want, {who}? Nobody needs the {thing} in the {place} now.",
    )
    return {"prompt": asked, "chosen": f" {kind}", "rejected": f" {rude}"}


def learnable_document(n: int) -> str:
    w = _Writer("document", n)

    def sentence() -> str:
        return w(
            f"Before you open the {w.thing()}, switch off the {w(*_THINGS)} in the {w(*_PLACES)}.",
            f"The {w.thing()} must be checked every {w(*_DAYS)}; {w(*_NAMES)} keeps the list in the {w(*_PLACES)}.",
            f"If the {w(*_THINGS)} is too {w('warm', 'cold', 'heavy')}, put it beside the {w.thing()} and wait.",
            f"Never use the {w.thing()} without a {w(*_THINGS)}, and ask {w(*_NAMES)} first.",
        )

    return "\n\n".join(" ".join(sentence() for _ in range(3)) for _ in range(2))


LEARNABLE_ROWS = 1_000

LEARNABLE: dict[str, Callable[[], dict[str, str]]] = {
    "classification-intent": lambda: {
        "intents.csv": table(["text", "intent"], [list(learnable_intent(n)) for n in range(LEARNABLE_ROWS)])
    },
    "classification-sentiment": lambda: {
        f"{label}.txt": "".join(f"{learnable_review(label, n)}\n" for n in range(LEARNABLE_ROWS // 2))
        for label in ("pos", "neg")
    },
    "continued-pretraining": lambda: {f"part{n % 3}/{n}.txt": learnable_document(n) for n in range(LEARNABLE_ROWS)},
    "dialogue": lambda: {"chats.jsonl": lines([learnable_conversation(n) for n in range(LEARNABLE_ROWS)])},
    "instruction-tuning": lambda: {
        "instructions.jsonl": lines([learnable_instruction(n) for n in range(LEARNABLE_ROWS)])
    },
    "poems-chinese": lambda: {
        "poems.json": json.dumps([learnable_poem(n) for n in range(LEARNABLE_ROWS)], ensure_ascii=False)
    },
    "preference": lambda: {"preferences.jsonl": lines([learnable_preference(n) for n in range(LEARNABLE_ROWS)])},
    "question-answering": lambda: {"questions.jsonl": lines([learnable_question(n) for n in range(LEARNABLE_ROWS)])},
    "translation": lambda: {"sentences.jsonl": lines([learnable_translation(n) for n in range(LEARNABLE_ROWS)])},
}
"""For each recipe rows of its kind from which a small model can learn."""
