"""What each task allows in params.yaml: one row per task."""

from dataclasses import dataclass
from typing import Literal

Task = Literal["sft", "language-modeling", "classification", "regression", "preference"]


@dataclass(frozen=True)
class TaskKeys:
    """What one task allows in params.yaml."""

    metrics: tuple[str, ...]
    """The metrics that have an interval and that a rule may name."""
    probes: tuple[str, ...] = ()
    """The metrics of probes, which are measured on other rows than the test rows; a rule may name them."""
    mixes: tuple[Task, ...] = ()
    """The tasks whose records it can be trained on in further sets (`data.mixture`)."""
    has_labels: bool = False
    """Whether its records have labels: then a rule may name the metrics of a label, and labels can have weights."""
    scores_base: bool = True
    """Whether its base can be scored. A base without a head for labels or numbers cannot."""
    can_shard: bool = True
    """Whether several processes can share the weights (finetune.fsdp)."""
    refused: tuple[tuple[str, str], ...] = ()
    """Keys of `finetune` that would do nothing, each with its remedy."""
    required: tuple[tuple[str, str], ...] = ()
    """Keys of `finetune` without which it cannot be trained, each with its remedy."""

    @property
    def reads_general(self) -> bool:
        """Whether a set of general text can be named for it (`data.general`)."""
        return "language-modeling" in self.mixes


_WRITTEN: tuple[Task, ...] = ("sft", "language-modeling")
_LIKELIHOOD = ("token_loss", "bits_per_byte")
_CLOSENESS = ("exact_match", "token_f1", "bleu", "chrf", "length_ratio")
_DIVERSITY = ("distinct_1", "distinct_2", "repetition", "self_bleu")
_NO_WEIGHTS = ("class_weights", "set it to null")
_NO_SMOOTHING = ("label_smoothing_factor", "remove it")

_GENERAL = "general_bits_per_byte"
_MEMORISED = (
    "extraction_strength",
    "extraction_strength_gap",
    "exact_memorization",
    "exact_memorization_gap",
    "copied_share",
    "canary_exposure",
)

TASK_KEYS: dict[Task, TaskKeys] = {
    "sft": TaskKeys(
        (*_LIKELIHOOD, *_CLOSENESS, *_DIVERSITY), (_GENERAL, *_MEMORISED), mixes=_WRITTEN, refused=(_NO_WEIGHTS,)
    ),
    "language-modeling": TaskKeys(
        (*_LIKELIHOOD, *_DIVERSITY), (_GENERAL, *_MEMORISED), mixes=_WRITTEN, refused=(_NO_WEIGHTS,)
    ),
    "classification": TaskKeys(
        ("accuracy", "macro_f1", "weighted_f1", "matthews_corrcoef", "ece"),
        mixes=("classification",),
        has_labels=True,
        scores_base=False,
    ),
    "regression": TaskKeys(
        ("mae", "rmse", "spearman"),
        mixes=("regression",),
        scores_base=False,
        refused=(_NO_SMOOTHING, _NO_WEIGHTS),
    ),
    "preference": TaskKeys(
        ("reward_accuracy", "reward_margin", *_LIKELIHOOD),
        (_GENERAL,),
        can_shard=False,
        refused=(("label_smoothing_factor", "use dpo.label_smoothing; remove it"), _NO_WEIGHTS),
        required=(("dpo", "add dpo: {beta: 0.1, loss_type: sigmoid}"),),
    ),
}
