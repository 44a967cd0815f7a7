"""Every shape of plain text: literal rows and the exact record, or the error with its remedy."""

from typing import Any

import pytest
from shaping import bot, plan, result, shape, user

from tuneline.data.mapping.choose import shape_of
from tuneline.data.records.record_form import RecordType
from tuneline.errors import DataError

PLAIN: list[tuple[str, dict[str, Any], str, RecordType, tuple[str, ...]]] = [
    ("prompt-completion", {"prompt": "q", "completion": " a"}, "pair", "prompt-completion", ("q", " a")),
    ("prompt-response", {"prompt": "q", "response": "a", "id": 3}, "pair", "prompt-completion", ("q", "a")),
    ("instruction-response", {"instruction": "q", "response": "a"}, "pair", "prompt-completion", ("q", "a")),
    ("names in other case", {"Prompt": "q", "Response ": "a"}, "pair", "prompt-completion", ("q", "a")),
    ("input-output", {"input": "q", "output": "a"}, "pair", "prompt-completion", ("q", "a")),
    ("question-answer", {"question": "q", "answer": "a"}, "question", "prompt-completion", ("q", "a")),
    (
        "question with context",
        {"context": "c", "question": "q", "answer": "a"},
        "question",
        "prompt-completion",
        ("c\n\nq", "a"),
    ),
    (
        "SQuAD",
        {"id": "1", "context": "c", "question": "q", "answers": {"text": ["a", "b"], "answer_start": [0, 4]}},
        "question",
        "prompt-completion",
        ("c\n\nq", "a"),
    ),
    (
        "instruction with context",
        {"instruction": "q", "context": "c", "response": "a", "category": "x"},
        "question",
        "prompt-completion",
        ("c\n\nq", "a"),
    ),
    (
        "poem",
        {"author": "杜甫", "title": "春望", "paragraphs": ["國破山河在，", "城春草木深。"]},
        "poem",
        "prompt-completion",
        ("春望\n杜甫", "國破山河在，\n城春草木深。"),
    ),
    (
        "ci poem",
        {"author": "", "rhythmic": "浣溪沙", "paragraphs": ["一曲新詞酒一杯"]},
        "poem",
        "prompt-completion",
        ("浣溪沙", "一曲新詞酒一杯"),
    ),
    (
        "poem with its content as lines",
        {
            "title": "關雎",
            "chapter": "國風",
            "section": "周南",
            "content": ["關關雎鳩，在河之洲。", "窈窕淑女，君子好逑。"],
        },
        "poem",
        "prompt-completion",
        ("關雎", "關關雎鳩，在河之洲。\n窈窕淑女，君子好逑。"),
    ),
    (
        "poem in stanzas",
        {"Title": "t", "Poet": "x", "stanzas": [["a", "b"], ["c"]]},
        "poem",
        "prompt-completion",
        ("t\nx", "a\nb\n\nc"),
    ),
    (
        "poem as text",
        {"Title": "t", "Poem": "a line\nanother", "Poet": "x", "Tags": "y"},
        "poem",
        "prompt-completion",
        ("t\nx", "a line\nanother"),
    ),
    (
        "poem with signs between the lines",
        {"题目": "春望", "朝代": "唐", "作者": "杜甫", "内容": "國破山河在，|城春草木深。"},
        "poem",
        "prompt-completion",
        ("春望\n杜甫", "國破山河在，\n城春草木深。"),
    ),
    (
        "poem with its lines as JSON text, as in a cell of CSV",
        {"title": "t", "author": "x", "paragraphs": '["a", "b"]'},
        "poem",
        "prompt-completion",
        ("t\nx", "a\nb"),
    ),
    (
        "an article is no poem",
        {"title": "t", "author": "x", "content": "A long line of prose that goes on and on. " * 4 + "\nAnd more."},
        "text",
        "text",
        ("A long line of prose that goes on and on. " * 4 + "\nAnd more.",),
    ),
    ("translation", {"translation": {"en": "moon", "zh": "月"}}, "translation", "prompt-completion", ("moon", "月")),
    (
        "columns of languages",
        {"id": 1, "zh-CN": "月", "en": "moon"},
        "translation",
        "prompt-completion",
        ("月", "moon"),
    ),
    ("source and target", {"source": "moon", "target": "月"}, "pair", "prompt-completion", ("moon", "月")),
    ("text and label", {"text": "t", "label": "NA"}, "label", "classification", ("t", "NA")),
    ("a label with spaces", {"text": "t", "label": " x"}, "label", "classification", ("t", " x")),
    ("a number as label", {"sentence": "t", "label": 0}, "label", "classification", ("t", "0")),
    ("a truth value as label", {"review": "t", "label": False}, "label", "classification", ("t", "false")),
    ("several labels", {"text": "t", "labels": ["b", "a", "b"]}, "labels", "classification", ("t", '["a","b"]')),
    ("text", {"text": " t\n"}, "text", "text", (" t\n",)),
    ("content", {"content": "t", "url": "u"}, "text", "text", ("t",)),
    ("text and score", {"text": "t", "score": 0.5}, "text", "text", ("t",)),
    ("review and stars", {"review": "t", "stars": 4}, "label", "classification", ("t", "4")),
    ("review and score", {"review": "t", "score": 4.25}, "number", "regression", ("t", "4.25")),
]


@pytest.mark.parametrize(
    ("row", "kind", "record_type", "fields"), [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN]
)
def test_every_plain_shape_becomes_its_record(
    row: dict[str, Any], kind: str, record_type: RecordType, fields: tuple[str, ...]
) -> None:
    made = shape(row)
    assert (made.kind, made.form.record_type, result(made, row)) == (kind, record_type, fields)


def test_a_part_of_a_question_that_only_later_rows_have_is_kept() -> None:
    made = shape({"instruction": "i", "output": "a"})
    assert result(made, {"instruction": "i", "output": "a", "input": "x", "history": [["q", "b"]]}) == (
        [user("q"), bot("b"), user("i\nx"), bot("a")],
        "",
    )
    made = shape({"question": "q", "answer": "a"})
    assert result(made, {"question": "q", "answer": "a", "context": "c"}) == ("c\n\nq", "a")


POEM = {"title": "t", "author": "x", "paragraphs": ["a"]}
LABELLED = {"text": "t", "label": "x"}
CHAT = {"messages": [user("q"), bot("a")]}


@pytest.mark.parametrize(
    ("row", "types", "kind", "fields"),
    [
        (POEM, ["text"], "poem", ("t\nx\na",)),
        (LABELLED, ["text"], "text", ("t",)),
        ({"text": "t", "prompt": "q", "completion": "a"}, ["text"], "text", ("t",)),
        ({"text": "t", "label": "4.50"}, ["regression"], "number", ("t", "4.50")),
        ({"text": "t", "score": 1, "label": "x"}, ["classification"], "label", ("t", "x")),
        ({"review": "t", "stars": 4}, ["regression"], "number", ("t", "4")),
    ],
)
def test_the_task_decides_between_several_matches(
    row: dict[str, Any], types: list[RecordType], kind: str, fields: tuple[str, ...]
) -> None:
    made = shape(row, types=types)
    assert (made.kind, result(made, row)) == (kind, fields)


@pytest.mark.parametrize("label", ["high", "nan", "inf", True])
def test_regression_needs_numbers(label: object) -> None:
    made = shape({"text": "t", "label": 1}, types=["regression"])
    assert result(made, {"text": "t", "label": label})[0] == "not-a-number"


@pytest.mark.parametrize(
    ("row", "columns", "record_type", "fields"),
    [
        ({"q": "1", "a": "2"}, {"prompt": "q", "completion": "a"}, "prompt-completion", ("1", "2")),
        ({"q": "1", "a": "2"}, {"text": "a"}, "text", ("2",)),
        ({"review": "t", "stars": 4}, {"text": "review", "label": "stars"}, "classification", ("t", "4")),
        (
            {"a": {"zh": "月", "en": "moon"}},
            {"prompt": "a.zh", "completion": "a.en"},
            "prompt-completion",
            ("月", "moon"),
        ),
        ({"dialog": [user("q"), bot("a")]}, {"messages": "dialog"}, "messages", ([user("q"), bot("a")], "")),
        (
            {"q": "1", "good": "2", "bad": "3"},
            {"prompt": "q", "chosen": "good", "rejected": "bad"},
            "preference",
            ("1", "2", "3"),
        ),
        (
            {"good": [user("q"), bot("a")], "bad": [user("q"), bot("b")]},
            {"chosen": "good", "rejected": "bad"},
            "preference",
            ([user("q")], [bot("a")], [bot("b")]),
        ),
        # Also where the names say something else.
        (
            {"prompt": "q", "completion": "a"},
            {"prompt": "completion", "completion": "prompt"},
            "prompt-completion",
            ("a", "q"),
        ),
        (
            {"prompt": "q", "completion": "a", "label": True},
            {"prompt": "prompt", "completion": "completion"},
            "prompt-completion",
            ("q", "a"),
        ),
    ],
)
def test_data_columns_map_columns_to_fields(
    row: dict[str, Any], columns: dict[str, str], record_type: RecordType, fields: tuple[Any, ...]
) -> None:
    made = shape_of(plan([row]), columns=columns)
    assert (made.form.record_type, result(made, row)) == (record_type, fields)


@pytest.mark.parametrize(
    ("row", "columns", "types", "message"),
    [
        (
            {"q": "1", "n": [1]},
            {},
            None,
            "a.jsonl: columns found: q, n (a list); they have no known shape; name the columns of "
            "prompt and completion, as in data.columns: {prompt: q, completion: n}",
        ),
        (
            {"q": "1"},
            {},
            ["classification"],
            "a.jsonl: columns found: q; they have no known shape; name the columns of text and "
            "label, as in data.columns: {text: q, label: …}, or to `tuneline use`: --column text=q "
            "--column 'label=…'",
        ),
        (
            {"question": "1", "body": "2"},
            {"prompt": "question", "completion": "boddy"},
            None,
            "a.jsonl: has no column boddy, which data.columns names; did you mean body?",
        ),
        (
            {"title": "t", "paragraphs": [{"context": "c", "qas": []}]},
            {},
            None,
            "a.jsonl: is SQuAD with one article per row, and each article has many questions; write one question per "
            "row with `jq",
        ),
        ({"q": "1"}, {"prompt": "q"}, None, "data.columns: prompt are not the fields of a record; use text; "),
        (
            LABELLED,
            {},
            ["prompt-completion", "messages"],
            "a.jsonl: contains classification or text rows, but the task needs prompt-completion or messages rows; "
            "set task: classification or language-modeling, or name the columns of prompt and completion in "
            "data.columns (columns found: text, label)",
        ),
        (
            {"prompt": "q", "completion": "a", "label": True},
            {},
            None,
            "a.jsonl: rows with one answer and label true or false (KTO) are not supported; put a good and a bad",
        ),
        (CHAT | {"label": False}, {}, None, "a.jsonl: rows with one answer and label true or false (KTO) are not"),
    ],
)
def test_an_unknown_shape_is_refused_with_the_remedy(
    row: dict[str, Any], columns: dict[str, str], types: list[RecordType] | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        shape_of(plan([row]), columns=columns, record_types=types)
    assert str(caught.value).startswith(message)


TICKETS = [
    {
        "nº": f"R-{n}",
        "provincia": f"provincia {n % 3}",
        "descripción": f"me cobran {n} euros de más",
        "tipo": "ab"[n % 2],
    }
    for n in range(60)
]


@pytest.mark.parametrize(
    ("rows", "types", "message"),
    [
        (
            TICKETS,
            None,
            "text and label (or prompt and completion), as in data.columns: {text: descripción, label: tipo}, or to "
            "`tuneline use`: --column 'text=descripción' --column label=tipo; columns with repeated values, which may "
            "be labels: "
            "provincia, tipo",
        ),
        (
            [row | {"nota (1-5)": ["1", "5", ""][number % 3]} for number, row in enumerate(TICKETS)],
            None,
            "--column 'text=descripción' --column label=tipo; columns with repeated values, which may be labels: "
            "provincia, tipo, nota (1-5)",
        ),
        (
            [{"nº": row["nº"], "tipo": row["tipo"], "descripción": row["descripción"]} for row in TICKETS],
            ["classification"],
            "text and label, as in data.columns: {text: descripción, label: tipo}, or to `tuneline use`: "
            "--column 'text=descripción' --column label=tipo",
        ),
        (
            [
                {"nº": row["nº"], "frage": row["descripción"], "antwort": f"{row['nº']} wird erstattet"}
                for row in TICKETS
            ],
            None,
            "prompt and completion, as in data.columns: {prompt: frage, completion: antwort}, or to `tuneline use`: "
            "--column prompt=frage --column completion=antwort",
        ),
        (
            [
                {
                    "mã": f"KH{n:04}",
                    "nội dung": f"giao hàng chậm quá, đơn số {n}",
                    "loại": ["khen", "chê", "hỏi"][n % 3],
                    "ngày gửi": f"2025-{n % 4 + 1:02}-11",
                    "lúc": f"{n % 3 + 1}/{n % 2 + 1}/2025 08:30",
                    "nguồn": f"https://a.example/{n % 4}",
                    "khách": f"user_{n % 15}",
                    "giá": str(n % 15 * 1000),
                }
                for n in range(200)
            ],
            None,
            "{text: nội dung, label: loại}, or to `tuneline use`: --column 'text=nội dung' --column 'label=loại'",
        ),
        (
            [
                {
                    "data": f"{n % 3 + 1:02}/03/2025",
                    "resposta": f"o prazo de entrega do pedido {n} é de cinco dias",
                    "pergunta": f"qual é o prazo do pedido {n}",
                    "categoria": "ab"[n % 2],
                }
                for n in range(60)
            ],
            None,
            "{prompt: pergunta, completion: resposta}, or to `tuneline use`: --column prompt=pergunta --column "
            "completion=resposta",
        ),
        (
            [
                {
                    "日期": f"2025年3月{n % 3 + 1}日",
                    "甲": f"这个订单{n}什么时候可以送到我家？",
                    "乙": f"订单{n}将在五天之内送到您的家里。",
                }
                for n in range(60)
            ],
            None,
            "{prompt: 甲, completion: 乙}, or to `tuneline use`: --column 'prompt=甲' --column 'completion=乙'",
        ),
        (
            [
                {"t": f"the parcel {n} is late", "b": f"it was sent {n} days ago and is not here", "kind": "ab"[n % 2]}
                for n in range(60)
            ],
            None,
            "{text: b, label: kind}, or to `tuneline use`: --column text=b --column label=kind; or as pairs: --column "
            "prompt=t --column completion=b",
        ),
    ],
)
def test_the_suggested_mapping_is_guessed_from_the_values(
    rows: list[dict[str, Any]], types: list[RecordType] | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        shape_of(plan(rows), record_types=types)
    assert str(caught.value).endswith(message)
