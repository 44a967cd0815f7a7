"""The HF backend of lm-evaluation-harness on pairs of prompt and answer.

    PYTHON benchmarks/peers/lm_eval_hf.py FOLDER ROWS BATCH_SIZE MAX_NEW_TOKENS THREADS

PYTHON is one where `lm_eval[hf]` is installed. ROWS is a JSON file of pairs. The last line that it prints is a JSON
object: the seconds of likelihood and of answers, and the results.
"""

# The peer is installed in a Python of its own.
# pyright: reportMissingImports=false

import json
import sys
import time
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

END = "<|e|>"


def main() -> None:
    folder, data, batch_size, max_new_tokens, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    rows = json.loads(Path(data).read_text("utf-8"))
    model = HFLM(
        pretrained=folder,
        device="cpu",
        dtype="float32",
        batch_size=int(batch_size),
        max_length=2_048,
        add_bos_token=False,
    )
    began = time.perf_counter()
    scored = model.loglikelihood(
        [
            Instance(request_type="loglikelihood", doc={}, arguments=(prompt, answer + END), idx=number)
            for number, (prompt, answer) in enumerate(rows)
        ],
        disable_tqdm=True,
    )
    middle = time.perf_counter()
    settings = {"until": [END], "max_gen_toks": int(max_new_tokens), "do_sample": False}
    texts = model.generate_until(
        [
            Instance(request_type="generate_until", doc={}, arguments=(prompt, settings), idx=number)
            for number, (prompt, _) in enumerate(rows)
        ],
        disable_tqdm=True,
    )
    seconds = {"likelihood": middle - began, "answers": time.perf_counter() - middle}
    print(json.dumps(seconds | {"nll": [-likelihood for likelihood, _ in scored], "texts": texts}))


if __name__ == "__main__":
    main()
