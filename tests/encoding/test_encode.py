"""Records become examples, and every length policy does and counts what it says."""

from random import Random

import pytest
from chats import encode
from transformers import PreTrainedTokenizerFast

from tuneline.encoding.encode import encode_records
from tuneline.encoding.examples import IGNORED, Example, Preference
from tuneline.encoding.truncation import EncodingReport, LengthPolicy, Overlong, refusal, truncate
from tuneline.errors import TrainingError


def test_a_pair_is_trained_as_written_plus_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    [example] = encode(tokenizer, {"prompt": "alpha ", "completion": "beta."})
    assert tokenizer.decode(example.input_ids) == "alpha beta.<|endoftext|>"
    supervised = [token for token, label in zip(example.input_ids, example.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(supervised) == "beta.<|endoftext|>"
    assert [label for label in example.labels if label != IGNORED] == supervised


def test_all_tokens_of_a_text_but_the_first_are_supervised(tokenizer: PreTrainedTokenizerFast) -> None:
    [example] = encode(tokenizer, {"text": "gamma delta"})
    assert tokenizer.decode(example.input_ids) == "gamma delta<|endoftext|>"
    assert example.labels == [IGNORED, *example.input_ids[1:]]


def test_a_special_token_that_a_text_spells_stays_text(tokenizer: PreTrainedTokenizerFast) -> None:
    spelt = f"a {tokenizer.eos_token} b"
    [example] = encode(tokenizer, {"prompt": spelt, "completion": spelt})
    ends = [place for place, token in enumerate(example.input_ids) if token == tokenizer.eos_token_id]
    assert ends == [len(example.input_ids) - 1]


def test_a_batch_of_records_gives_the_examples_of_each_record_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    records = [{"prompt": f"α {number}\n", "completion": "文" * number} for number in range(5)]
    assert encode_records(tokenizer, records) == [encode(tokenizer, record) for record in records]


def test_a_beginning_of_text_token_is_written_once(tokenizer: PreTrainedTokenizerFast) -> None:
    class Beginning(PreTrainedTokenizerFast):
        def __call__(self, text, add_special_tokens=True, **more):  # pyright: ignore[reportIncompatibleMethodOverride]
            made = super().__call__(text, add_special_tokens=False, **more)
            if add_special_tokens:
                made["input_ids"] = [self.bos_token_id, *made["input_ids"]]
            return made

    own = Beginning(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>", bos_token="<|pad|>")
    [example] = encode(own, {"prompt": "alpha ", "completion": "beta"})
    assert own.decode(example.input_ids) == "<|pad|>alpha beta<|endoftext|>"
    assert example.labels[0] == IGNORED


def fit(
    examples: list[Example], max_length: int, overlong: Overlong, max_dropped_fraction: float
) -> tuple[list[Example], EncodingReport]:
    policy = LengthPolicy(max_length, overlong, max_dropped_fraction)
    kept = [kept for example in examples for kept in policy.apply([example])]
    return kept, policy.report()


PAIR = Example([10, 11, 12, 13, 20, 21, 0], [IGNORED] * 4 + [20, 21, 0])
TEXT = Example([1, 2, 3, 4, 5], [IGNORED, 2, 3, 4, 5])


def test_truncate_keeps_the_completion() -> None:
    kept, report = fit([PAIR], 5, "truncate", 0.0)
    assert kept == [Example([12, 13, 20, 21, 0], [IGNORED, IGNORED, 20, 21, 0])]
    assert (report.rows_truncated, report.tokens, report.supervised_tokens, report.tokens_left_out) == (1, 5, 3, 2)


def test_truncate_cuts_a_completion_that_is_too_long_alone() -> None:
    assert fit([PAIR], 3, "truncate", 0.0)[0] == [Example([13, 20, 21], [IGNORED, 20, 21])]


def test_a_prompt_keeps_half_of_max_length_before_a_long_answer() -> None:
    prompt, answer = list(range(100, 130)), list(range(200, 230))
    pair = Example(prompt + answer, [IGNORED] * 30 + answer)
    [cut], report = fit([pair], 20, "truncate", 0.0)
    assert cut == Example(prompt[-10:] + answer[:10], [IGNORED] * 10 + answer[:10])
    assert (report.rows_without_end, report.supervised_tokens, report.supervised_tokens_left_out) == (1, 10, 20)
    # A prompt or an answer shorter than half stays complete.
    assert truncate(Example([7, *answer], [IGNORED, *answer]), 20).input_ids == [7, *answer[:19]]
    short = answer[:6]
    assert truncate(Example(prompt + short, [IGNORED] * 30 + short), 20).input_ids == prompt[-14:] + short
    preferred = Preference(prompt, answer, answer[:5])
    assert truncate(preferred, 20) == Preference(prompt[-10:], answer[:10], answer[:5])
    # The beginning-of-text token stays.
    assert truncate(pair, 20, start=1).input_ids == [100, *prompt[-9:], *answer[:10]]


def text_of(tokens: int) -> Example:
    ids = list(range(1, tokens + 1))
    return Example(ids, [IGNORED, *ids[1:]], f"a.jsonl:{tokens}")


def test_the_refusal_names_a_sufficient_max_length() -> None:
    texts = [text_of(tokens) for tokens in [100] * 15 + [300, 700, 700, 2000, 9000]]
    _, report = fit(texts, 256, "truncate", 0.0)
    assert report.rows_truncated == 5
    assert report.truncated_fraction == report.supervised_tokens_left_out / sum(
        len(text.input_ids) - 1 for text in texts
    )
    # The share counts rows, and supervised tokens, most of which are in the longest document.
    assert report.sufficient_length(0.8) == (320, 0.2)
    assert report.sufficient_length(0.1) == (8192, 0.05)
    assert (report.truncated_at(512), report.truncated_at(704), report.truncated_at(256)) == (0.2, 0.1, 0.25)
    said = refusal(report, 256, 0.1, None)
    assert said.startswith("finetune.max_length: 5 of 20 rows (25.0%) are longer than 256 tokens and are cut to that ")
    assert "set finetune.max_length to 8,192, which cuts 5.0% of the rows, or set finetune.overlong to drop" in said
    assert "a.jsonl:300, a.jsonl:700, a.jsonl:700, a.jsonl:2000, a.jsonl:9000;" in said
    said = refusal(report, 256, 0.1, 512)
    assert "the base sees 512 tokens at most, with which 20.0% are still cut: use a base that sees 8,192, or" in said
    assert "still cut" not in refusal(report, 256, 0.1, 256)
    said = refusal(report, 256, 0.1, 512, is_builtin=True)
    assert "set finetune.max_length and base.builtin.max_length to 8,192, which cuts 5.0% of the rows" in said


def test_a_sufficient_max_length_cuts_no_more_than_is_allowed() -> None:
    """The same rows at that length."""
    random = Random(0)
    texts = [text_of(int(random.lognormvariate(5, 1.2)) + 2) for _ in range(300)]
    pairs = [
        Example(one.input_ids, [IGNORED] * (at := random.randint(1, len(one.input_ids) - 1)) + one.input_ids[at:])
        for one in texts
    ]
    for rows in (texts, pairs):
        for allowed in (0.02, 0.1, 0.4):
            _, report = fit(rows, 64, "truncate", 0.0)
            found = report.sufficient_length(allowed)
            assert found is not None
            _, again = fit(rows, found[0], "truncate", 0.0)
            assert again.truncated_fraction <= allowed
            assert again.rows_truncated == pytest.approx(found[1] * len(rows))


def test_drop_counts_and_keeps_what_fits() -> None:
    kept, report = fit([PAIR, TEXT], 5, "drop", 0.5)
    assert kept == [TEXT]
    assert (report.rows, report.rows_dropped, report.tokens_left_out) == (2, 1, 7)


def test_split_loses_no_text() -> None:
    kept, report = fit([TEXT], 2, "split", 0.0)
    assert kept == [Example([1, 2], [IGNORED, 2]), Example([3, 4], [IGNORED, 4])]
    assert (report.rows_split, report.rows_dropped, report.tokens_left_out) == (1, 0, 1)


def test_a_row_without_supervised_tokens_is_dropped_and_counted() -> None:
    kept, report = fit([TEXT, Example([7, 8], [IGNORED, IGNORED])], 8, "error", 0.5)
    assert kept == [TEXT]
    assert (report.rows_dropped, report.rows_without_label) == (1, 1)


@pytest.mark.parametrize(
    ("policy", "allowed", "message"),
    [
        ("error", 1.0, "1 of 2 rows are longer than max_length 5: row 1 (7 tokens); raise max_length"),
        ("drop", 0.4, "1 of 2 rows are dropped (0 with nothing to train on, 1 longer than max_length 5)"),
        ("drop", 0.4, "raise max_length to 64 or correct the rows"),
        ("split", 1.0, "split is only for plain text, and not for pairs of prompt and completion"),
    ],
)
def test_rows_that_a_length_policy_refuses(policy: str, allowed: float, message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        fit([PAIR, TEXT], 5, policy, allowed)  # pyright: ignore[reportArgumentType]
    assert message in str(caught.value)
