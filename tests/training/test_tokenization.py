import pytest
from transformers import PreTrainedTokenizerFast

from tuneline.errors import TrainingError
from tuneline.training.tokenization import IGNORED, Example, encode, encode_all, fit


def test_a_pair_is_trained_as_written_plus_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    [example] = encode(tokenizer, {"prompt": "alpha ", "completion": "beta."}, "plain")
    assert tokenizer.decode(example.input_ids) == "alpha beta.<|endoftext|>"
    learnt = [token for token, label in zip(example.input_ids, example.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learnt) == "beta.<|endoftext|>"
    assert [label for label in example.labels if label != IGNORED] == learnt


def test_of_a_text_all_but_the_first_token_is_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    [example] = encode(tokenizer, {"text": "gamma delta"}, "plain")
    assert tokenizer.decode(example.input_ids) == "gamma delta<|endoftext|>"
    assert example.labels == [IGNORED, *example.input_ids[1:]]


def test_a_special_token_spelt_in_a_text_is_text(tokenizer: PreTrainedTokenizerFast) -> None:
    spelt = f"a {tokenizer.eos_token} b"
    [example] = encode(tokenizer, {"prompt": spelt, "completion": spelt}, "plain")
    ends = [place for place, token in enumerate(example.input_ids) if token == tokenizer.eos_token_id]
    assert ends == [len(example.input_ids) - 1]


def test_many_records_become_what_each_becomes_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    records = [{"prompt": f"α {number}\n", "completion": "文" * number} for number in range(5)]
    assert encode_all(tokenizer, records, "plain") == [encode(tokenizer, record, "plain") for record in records]


def test_a_beginning_of_text_that_the_tokenizer_writes_is_kept_once(tokenizer: PreTrainedTokenizerFast) -> None:
    class Beginning(PreTrainedTokenizerFast):
        def __call__(self, text, add_special_tokens=True, **more):  # pyright: ignore[reportIncompatibleMethodOverride]
            made = super().__call__(text, add_special_tokens=False, **more)
            if add_special_tokens:
                made["input_ids"] = [self.bos_token_id, *made["input_ids"]]
            return made

    own = Beginning(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>", bos_token="<|pad|>")
    [example] = encode(own, {"prompt": "alpha ", "completion": "beta"}, "plain")
    assert own.decode(example.input_ids) == "<|pad|>alpha beta<|endoftext|>"
    assert example.labels[0] == IGNORED


PAIR = Example([10, 11, 12, 13, 20, 21, 0], [IGNORED] * 4 + [20, 21, 0])
TEXT = Example([1, 2, 3, 4, 5], [IGNORED, 2, 3, 4, 5])


def test_truncate_keeps_the_completion() -> None:
    kept, account = fit([PAIR], 5, "truncate", 0.0)
    assert list(kept) == [Example([12, 13, 20, 21, 0], [IGNORED, IGNORED, 20, 21, 0])]
    assert (account.rows_truncated, account.tokens, account.supervised_tokens, account.tokens_left_out) == (1, 5, 3, 2)


def test_truncate_cuts_the_completion_only_where_it_is_too_long_itself() -> None:
    assert list(fit([PAIR], 3, "truncate", 0.0)[0]) == [Example([13, 20, 21], [IGNORED, 20, 21])]


def test_drop_counts_and_keeps_what_fits() -> None:
    kept, account = fit([PAIR, TEXT], 5, "drop", 0.5)
    assert list(kept) == [TEXT]
    assert (account.rows, account.rows_dropped, account.tokens_left_out) == (2, 1, 7)


def test_split_loses_no_text() -> None:
    kept, account = fit([TEXT], 2, "split", 0.0)
    assert list(kept) == [Example([1, 2], [IGNORED, 2]), Example([3, 4], [IGNORED, 4])]
    assert (account.rows_split, account.rows_dropped, account.tokens_left_out) == (1, 0, 1)


def test_a_row_with_nothing_to_learn_is_dropped_and_counted() -> None:
    kept, account = fit([TEXT, Example([7, 8], [IGNORED, IGNORED])], 8, "error", 0.5)
    assert list(kept) == [TEXT]
    assert (account.rows_dropped, account.rows_without_label) == (1, 1)


@pytest.mark.parametrize(
    ("policy", "allowed", "message"),
    [
        ("error", 1.0, "1 of 2 rows are longer than max_length 5: row 1 (7 tokens); raise max_length"),
        ("drop", 0.4, "1 of 2 rows are dropped (0 with nothing to learn, 1 longer than max_length 5)"),
        ("split", 1.0, "only plain text can be split, and not a pair of prompt and completion"),
    ],
)
def test_what_is_refused(policy: str, allowed: float, message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        fit([PAIR, TEXT], 5, policy, allowed)  # pyright: ignore[reportArgumentType]
    assert message in str(caught.value)
