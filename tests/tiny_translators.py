"""Sequence-to-sequence models with random weights, whose translations are words all the same."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

PAD, EOS = 0, 1
WORDS = 40


def write_t5(folder: Path, *, seed: int = 0, ends: bool = True) -> None:
    """A T5 with a tokenizer of the words w0 to w39.

    Args:
        folder: to write it into.
        seed: of its weights.
        ends: whether every translation ends, if need be by force.
    """
    set_seed(seed)
    special = ["<pad>", "</s>", "<unk>"]
    words = {word: number for number, word in enumerate([*special, *(f"w{n}" for n in range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", EOS)])  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=128
    ).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "vocab_size": len(words),
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
    }
    sizes["initializer_factor"] = 8.0
    tokens: dict[str, Any] = {"decoder_start_token_id": PAD, "pad_token_id": PAD, "eos_token_id": EOS}
    model = T5ForConditionalGeneration(T5Config(**sizes, **tokens))
    # Random weights end a text, or repeat a word, whatever is asked: large ones differ from text to text.
    never = [PAD, 2] if ends else [PAD, EOS, 2]
    model.generation_config = GenerationConfig(
        **tokens, forced_eos_token_id=EOS if ends else None, suppress_tokens=never
    )
    model.save_pretrained(folder)


def write_marian(folder: Path, texts: list[str]) -> None:
    """A MarianMT, whose tokenizer needs sentencepiece, with the pieces of some texts."""
    import json

    import sentencepiece  # pyright: ignore[reportMissingImports]

    folder.mkdir(parents=True)
    (folder / "texts").write_text("\n".join(texts), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(folder / "own"), vocab_size=60, hard_vocab_limit=False
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "own.model"))
    found = dict.fromkeys(["</s>", "<unk>", *(pieces.id_to_piece(n) for n in range(len(pieces))), "<pad>"])
    words = {piece: number for number, piece in enumerate(piece for piece in found if piece != "<s>")}
    (folder / "vocab.json").write_text(json.dumps(words), "utf-8")
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes((folder / "own.model").read_bytes())
    for name in ("texts", "own.model", "own.vocab"):
        (folder / name).unlink()
    about = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), "utf-8")
    set_seed(0)
    last = len(words) - 1
    tokens: dict[str, Any] = {
        "pad_token_id": last,
        "eos_token_id": 0,
        "decoder_start_token_id": last,
        "forced_eos_token_id": 0,
    }
    sizes: dict[str, Any] = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    MarianMTModel(
        MarianConfig(vocab_size=len(words), d_model=16, max_position_embeddings=64, init_std=1.0, **sizes, **tokens)
    ).save_pretrained(folder)
