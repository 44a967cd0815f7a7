"""The built-in base: a byte-level BPE tokenizer and a small Llama, trained from nothing on the pretraining text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, set_seed

from tuneline.core import files, information
from tuneline.encoding import encode
from tuneline.encoding.examples import Example, Examples
from tuneline.encoding.truncation import EncodingReport
from tuneline.errors import TrainingError
from tuneline.modeling import forward, models
from tuneline.params import Builtin, Compute
from tuneline.progress import Progress
from tuneline.training import loop
from tuneline.training.training_config import Recipe
from tuneline.training.training_run import Training, train

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
_EVAL_BATCH_SIZE = 16
STEPS_OF_EPOCH = 100
"""Of 163 kB of poems, 415 steps of 4 rows in four epochs end at 2.73 bits per byte of held-out poems, and 104 steps of
16 rows at 2.86."""
MOST_ROWS = 16
MANY_EPOCHS = 4.0
"""Up to here a text that is seen again teaches nearly as much as new text (Muennighoff et al., 2023, Scaling
Data-Constrained Language Models, https://arxiv.org/abs/2305.16264)."""
# Held-out pieces that are measured while the base trains: enough to see the loss turn, and a small part of the time.
_MEASURED_PIECES = 256


@dataclass(frozen=True)
class Pretrained:
    """A base and what its training was."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    training: Training
    account: EncodingReport


def texts_of(path: Path) -> list[str]:
    """The texts of a folder of pretraining text.

    Raises:
        TrainingError: there is none.
    """
    texts = files.read_parquet(path, ["text"]).column("text").to_pylist()
    if not texts:
        raise TrainingError(f"{path}: no texts; the set of data.pretraining is too small for data.split")
    return texts


def pretrain(
    texts: Sequence[str],
    heldout: Sequence[str],
    builtin: Builtin,
    compute: Compute,
    *,
    folder: Path,
    log: loop.Log | None = None,
) -> Pretrained:
    """Train the tokenizer, then the model, as long as held-out text gains from it.

    Args:
        texts: whole documents, none of them held out.
        heldout: whole documents that say which weights are best.
        builtin: sizes and recipe.
        compute: on what.
        folder: of the checkpoints of exactly this training.
        log: a tracker's ear.

    Raises:
        TrainingError: there is too little text.
    """
    with Progress("training the tokenizer", unit="texts") as progress:
        tokenizer = train_tokenizer(texts, builtin.vocab_size, builtin.max_length, builtin.min_frequency)
        progress.update(len(texts), len(texts))
    if len(tokenizer) < builtin.vocab_size:
        print(
            f"the text gives {len(tokenizer):,} tokens of base.builtin.vocab_size {builtin.vocab_size:,} that it holds "
            f"at least {builtin.min_frequency} times",
            flush=True,
        )
    examples, account = examples_of(tokenizer, texts, builtin)
    model = build_model(tokenizer, builtin)
    fitting = {} if builtin.per_device_train_batch_size else fitting_steps(account.tokens, builtin)
    recipe = Recipe.of(builtin, compute, packing=True, max_grad_norm=1.0, max_length=builtin.document_length, **fitting)
    _tell_plan(models.count_parameters(model), account, recipe)
    training = train(
        model,
        examples,
        recipe,
        pad=models.pad_token_id(tokenizer),
        folder=folder,
        validation=_measured(tokenizer, heldout, builtin.document_length),
        log=log,
    )
    return Pretrained(training.model.cpu(), tokenizer, training, account)


def fitting_steps(tokens: int, builtin: Builtin) -> dict[str, float]:
    """The rows of a step that suit an amount of text, and the learning rates that suit these rows.

    A small text is learnt in more and smaller steps: as many rows as leave STEPS_OF_EPOCH steps to an epoch, from 1 to
    MOST_ROWS. The learning rates of the params are those of MOST_ROWS; they fall with the root of the rows (Malladi et
    al., 2022, On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, https://arxiv.org/abs/2205.10287).

    Args:
        tokens: of all texts, once.
        builtin: the params.

    Returns:
        The keys of the recipe, and their values.
    """
    rows = min(max(tokens // (STEPS_OF_EPOCH * builtin.document_length), 1), MOST_ROWS)
    part = math.sqrt(rows / MOST_ROWS)
    return {
        "per_device_train_batch_size": rows,
        "learning_rate": part * builtin.learning_rate,
        "adam_learning_rate": part * builtin.adam_learning_rate,
    }


def planned_epochs(tokens: int, recipe: Recipe) -> float:
    """How often every text will be seen, about.

    Args:
        tokens: of all texts.
        recipe: how to train, in packed rows.
    """
    if recipe.max_steps is None:
        return recipe.num_train_epochs
    of_step = recipe.rows_of_a_batch * recipe.gradient_accumulation_steps * recipe.max_length
    return min(recipe.num_train_epochs, recipe.max_steps * of_step / max(tokens, 1))


def _tell_plan(parameters: int, account: EncodingReport, recipe: Recipe) -> None:
    epochs = planned_epochs(account.tokens, recipe)
    print(
        f"pretraining {parameters:,} parameters on {account.rows:,} texts of {account.tokens:,} tokens, each of them "
        f"about {epochs:.1f} times at most",
        flush=True,
    )
    if epochs > MANY_EPOCHS + 0.05:
        print(
            f"warning: more than about {MANY_EPOCHS:.0f} times is seldom worth it: the base learns its text by heart "
            "and gets worse at any other; lower base.builtin.num_train_epochs or max_steps, or bring more text",
            flush=True,
        )


def _measured(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> list[Example]:
    """Pieces of held-out texts that are measured while the base trains, from all of them."""
    pieces, _ = encode.encode_texts(tokenizer, texts, length, "split")
    count = min(len(pieces), _MEASURED_PIECES)
    return [pieces[place * len(pieces) // count] for place in range(count)]


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, max_length: int, min_frequency: int = 1
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text can be written with it, and the same texts give the same one.

    Args:
        texts: what the merges are counted on.
        vocab_size: tokens at most, of which 256 are bytes and two are special.
        max_length: tokens that the model will see at once.
        min_frequency: how often the texts must hold two tokens side by side before they become one.
    """
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[END_OF_TEXT, PAD],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
        length=len(texts),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END_OF_TEXT, pad_token=PAD, model_max_length=max_length
    )


def build_model(tokenizer: PreTrainedTokenizerFast, builtin: Builtin) -> PreTrainedModel:
    """A Llama of the given sizes with random weights, the same for the same seed."""
    set_seed(builtin.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=builtin.hidden_size,
        intermediate_size=builtin.intermediate_size,
        num_hidden_layers=builtin.num_hidden_layers,
        num_attention_heads=builtin.num_attention_heads,
        num_key_value_heads=builtin.num_attention_heads,
        max_position_embeddings=builtin.max_length,
        tie_word_embeddings=builtin.tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        pad_token_id=models.pad_token_id(tokenizer),
    )
    return LlamaForCausalLM(config)


def examples_of(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], builtin: Builtin
) -> tuple[Examples, EncodingReport]:
    """The beginnings of the texts."""
    return encode.encode_texts(tokenizer, texts, builtin.document_length, "truncate")


def heldout(pretrained: Pretrained, texts: Sequence[str], length: int) -> dict[str, Any]:
    """How well the base foretells texts that it never saw, every one read whole, piece by piece.

    Args:
        pretrained: the base.
        texts: of held-out groups.
        length: tokens in a piece, which is what the base learnt to see.

    Returns:
        `rows`, `bits_per_byte` and `token_loss` (nats).
    """
    examples, _ = encode.encode_texts(pretrained.tokenizer, texts, length, "split")
    nll, tokens = forward.total_nll(
        pretrained.model,
        examples,
        pad=models.pad_token_id(pretrained.tokenizer),
        sparse=True,
        batch_size=_EVAL_BATCH_SIZE,
    )
    measured_bytes = sum(len(text.encode()) for text in texts)
    return {"rows": len(texts), "bits_per_byte": information.bits(nll) / measured_bytes, "token_loss": nll / tokens}
