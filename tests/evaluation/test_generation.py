import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.evaluation import generation

PROMPTS = ["def area(width, height):\n", "x", "", "把一个字符串", "Return the area of a rectangle, and then " * 5]


def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str, count: int) -> list[int]:
    """A greedy answer without cache, by one forward pass per token."""
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"] or [0]
    ids = ids[-(64 - count) :]  # pyright: ignore[reportIndexIssue]
    answer: list[int] = []
    while len(answer) < count:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([[*ids, *answer]])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_batch_gives_the_answers_of_each_prompt_alone(
    batch_size: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    answers = generation.generate(model, tokenizer, PROMPTS, mode="plain", max_new_tokens=12, batch_size=batch_size)
    assert answers == [tokenizer.decode(greedy(model, tokenizer, prompt, 12)) for prompt in PROMPTS]
    assert len(set(answers)) > 1


def test_the_model_s_own_end_of_turn_ends_an_answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = greedy(model, tokenizer, PROMPTS[0], 12)
    # The first token that does not occur earlier in the answer becomes the end of turn.
    end = next(place for place in range(2, 12) if ids[place] not in ids[:place])
    assert model.generation_config is not None
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [0, ids[end]]
    try:
        answers = generation.generate(model, tokenizer, PROMPTS[:1], mode="plain", max_new_tokens=12, batch_size=1)
    finally:
        model.generation_config.eos_token_id = before
    assert answers == [tokenizer.decode(ids[: end + 1])]


def test_the_sampling_settings_of_a_model_are_ignored(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = generation.generate(model, tokenizer, PROMPTS, mode="plain", max_new_tokens=8, batch_size=5)
    assert model.generation_config is not None
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=9.0)
    try:
        again = generation.generate(model, tokenizer, PROMPTS, mode="plain", max_new_tokens=8, batch_size=5)
    finally:
        model.generation_config.update(do_sample=False, temperature=1.0, repetition_penalty=1.0)
    assert again == plain


def test_answers_use_the_cache_even_if_the_model_was_saved_with_use_cache_false(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    widths: list[int] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[1]))
    assert model.generation_config is not None
    model.generation_config.use_cache = model.config.use_cache = False
    try:
        generation.generate(model, tokenizer, PROMPTS[:1], mode="plain", max_new_tokens=8, batch_size=1)
    finally:
        hook.remove()
        model.generation_config.use_cache, model.config.use_cache = None, True
    assert len(widths) > 1
    assert set(widths[1:]) == {1}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_pieces_of_a_stream_are_the_answer(
    prompt: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    pieces = list(generation.stream(model, tokenizer, prompt, mode="plain", max_new_tokens=12))
    [answer] = generation.generate(model, tokenizer, [prompt], mode="plain", max_new_tokens=12, batch_size=1)
    assert "".join(pieces) == answer
    assert all(pieces)


def test_an_exception_during_a_stream_is_raised_in_the_reader(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory left")

    hook = model.get_input_embeddings().register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="no memory left"):
            list(generation.stream(model, tokenizer, "x", mode="plain", max_new_tokens=4))
    finally:
        hook.remove()


def test_a_chat_model_is_prompted_with_its_template_and_stops_at_the_end_of_its_turn(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    before = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '\\n' if message.role == 'assistant' }}{{ message.content }}"
        "{{ eos_token if message.role == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n' }}{% endif %}"
    )
    record = {
        "messages": '[{"role": "user", "content": "def area(width, height):"}, {"role": "assistant", "content": "x"}]',
        "tools": "",
    }
    try:
        answers = generation.generate(
            model, tokenizer, ["def area(width, height):", record], mode="chat", max_new_tokens=12, batch_size=2
        )
        pieces = list(generation.stream(model, tokenizer, record, mode="chat", max_new_tokens=12))
    finally:
        tokenizer.chat_template = before
    assert answers == [tokenizer.decode(greedy(model, tokenizer, "def area(width, height):\n", 12))] * 2
    assert "".join(pieces) == answers[0]
