"""The built-in base: a byte-level BPE tokenizer and a small Llama, trained from random weights."""

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
from tuneline.encoding.examples import Example
from tuneline.encoding.truncation import EncodingReport
from tuneline.errors import TrainingError
from tuneline.modeling import forward, models
from tuneline.params import Builtin, Compute
from tuneline.progress import Progress
from tuneline.training.trainer import Log
from tuneline.training.training_config import EVAL_BATCH_SIZE, TrainingConfig
from tuneline.training.training_run import Training, train

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
STEPS_OF_EPOCH = 100
"""On 163 kB of poems, four epochs in 415 steps of 4 rows give 2.73 bits per byte of held-out poems, and in 104 steps
of 16 rows 2.86."""
MOST_ROWS = 16
MANY_EPOCHS = 4.0
"""Up to so many epochs, repeated text is nearly as good as new text (Muennighoff et al., 2023, Scaling
Data-Constrained Language Models, https://arxiv.org/abs/2305.16264)."""
# The keys of a training that base.builtin does not have.
_FIXED: dict[str, Any] = {
    "section": "base.builtin",
    "packing": True,
    "max_grad_norm": 1.0,
    "gradient_accumulation_steps": 1,
    "nproc_per_node": 1,
    "save_total_limit": 2,
}
# Pieces of held-out text that are measured during the training: enough to see the loss rise, in a short time.
_MEASURED_PIECES = 256


@dataclass(frozen=True)
class Pretrained:
    """A base and its training."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    training: Training
    report: EncodingReport


def texts_of(path: Path) -> list[str]:
    """The texts in a folder of pretraining text.

    Raises:
        TrainingError: the folder has no text.
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
    log: Log | None = None,
) -> Pretrained:
    """Train the tokenizer, then the model.

    Args:
        texts: complete documents.
        heldout: other complete documents, which decide which weights are best.
        builtin: section `base.builtin`.
        compute: section `compute`.
        folder: the checkpoints of exactly this training.
        log: called with the measures of each logged step.

    Raises:
        TrainingError: there is too little text.
    """
    with Progress("training the tokenizer", unit="texts") as progress:
        tokenizer = train_tokenizer(texts, builtin.vocab_size, builtin.max_length, builtin.min_frequency)
        progress.update(len(texts), len(texts))
    if len(tokenizer) < builtin.vocab_size:
        print(
            f"the vocabulary has {len(tokenizer):,} tokens, fewer than base.builtin.vocab_size "
            f"{builtin.vocab_size:,}, because no other token occurs {builtin.min_frequency} times in the text",
            flush=True,
        )
    examples, report = encode.encode_texts(tokenizer, texts, builtin.document_length, "truncate")
    model = build_model(tokenizer, builtin)
    fitting = {} if builtin.per_device_train_batch_size else fitting_steps(report.tokens, builtin)
    config = TrainingConfig.from_params(builtin, compute, max_length=builtin.document_length, **_FIXED, **fitting)
    _print_plan(models.count_parameters(model), report, config)
    training = train(
        model,
        examples,
        config,
        pad=models.pad_token_id(tokenizer),
        folder=folder,
        validation=_measured(tokenizer, heldout, builtin.document_length),
        log=log,
    )
    return Pretrained(training.model.cpu(), tokenizer, training, report)


def fitting_steps(tokens: int, builtin: Builtin) -> dict[str, float]:
    """The rows of a step that fit the amount of text, and the learning rates that fit these rows.

    An epoch has about STEPS_OF_EPOCH steps, of 1 to MOST_ROWS rows. The learning rates of the params are for MOST_ROWS;
    they are multiplied by the root of the share of these rows (Malladi et al., 2022, On the SDEs and Scaling Rules for
    Adaptive Gradient Algorithms, https://arxiv.org/abs/2205.10287).

    Args:
        tokens: tokens of all texts.
        builtin: section `base.builtin`.

    Returns:
        Keys of the training config and their values.
    """
    rows = min(max(tokens // (STEPS_OF_EPOCH * builtin.document_length), 1), MOST_ROWS)
    part = math.sqrt(rows / MOST_ROWS)
    return {
        "per_device_train_batch_size": rows,
        "learning_rate": part * builtin.learning_rate,
        "adam_learning_rate": part * (builtin.adam_learning_rate or builtin.learning_rate),
    }


def _print_plan(parameters: int, report: EncodingReport, config: TrainingConfig) -> None:
    epochs = min(config.num_train_epochs, config.max_rows * config.max_length / max(report.tokens, 1))
    print(
        f"pretraining {parameters:,} parameters on {report.rows:,} texts with {report.tokens:,} tokens; each text is "
        f"seen about {epochs:.1f} times at most",
        flush=True,
    )
    if epochs > MANY_EPOCHS + 0.05:
        print(
            f"warning: more than about {MANY_EPOCHS:.0f} times is seldom useful: the base memorises its text and gets "
            "worse on other text; lower base.builtin.num_train_epochs or max_steps, or add more text",
            flush=True,
        )


def _measured(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> list[Example]:
    """Pieces of the held-out texts, evenly chosen, that are measured during the training."""
    pieces, _ = encode.encode_texts(tokenizer, texts, length, "split")
    count = min(len(pieces), _MEASURED_PIECES)
    return [pieces[number * len(pieces) // count] for number in range(count)]


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, max_length: int, min_frequency: int = 1
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, which can encode any text. The same texts give the same tokenizer.

    Args:
        texts: the texts on which merges are counted.
        vocab_size: the most tokens; 256 of them are bytes and two are special.
        max_length: tokens that the model sees at once.
        min_frequency: how often two tokens must be adjacent before they are merged.
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
    """A Llama of the given sizes with random weights from the seed."""
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


def heldout(pretrained: Pretrained, texts: Sequence[str], length: int) -> dict[str, Any]:
    """How well the base predicts held-out texts, each split into pieces.

    Args:
        pretrained: the base.
        texts: the held-out texts.
        length: tokens in a piece.

    Returns:
        `rows`, `bits_per_byte` and `token_loss` (nats).
    """
    examples, _ = encode.encode_texts(pretrained.tokenizer, texts, length, "split")
    nll, tokens = forward.total_nll(
        pretrained.model,
        examples,
        pad=models.pad_token_id(pretrained.tokenizer),
        sparse=True,
        batch_size=EVAL_BATCH_SIZE,
    )
    measured_bytes = sum(len(text.encode()) for text in texts)
    return {"rows": len(texts), "bits_per_byte": information.bits(nll) / measured_bytes, "token_loss": nll / tokens}
