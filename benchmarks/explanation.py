"""How faithful the attributions of a version's answers are, over test prompts.

    .venv/bin/python -m tuneline exec -- python benchmarks/explanation.py [--version N] [--prompts 40]

Run it in a project whose version writes text and whose data are in DVC's cache; it needs the extra `explain`. Each
prompt is explained as `tuneline explain` explains it. It prints a table in Markdown: for how many prompts an
attribution is better than random orders of the words by itself, and its mean gain with a 95 % interval over prompts.
For labels and numbers `tuneline explain --test` prints the same.
"""

import argparse
import time
from collections import Counter, defaultdict

import numpy as np

from tuneline import params
from tuneline.commands.ask import served_version
from tuneline.decisions import version_rows
from tuneline.errors import ModelError
from tuneline.evaluation import intervals, metrics
from tuneline.explanation import explain, installed
from tuneline.explanation.deletion import Versus
from tuneline.modeling import models
from tuneline.registry import cards


def main() -> None:
    """Explain the prompts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", type=int)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    given = parser.parse_args()
    installed.check()
    p = params.load()
    served = served_version.serve(p, version=given.version, alias=cards.CHAMPION)
    served_version.check_writes(served)
    prompts = [
        text
        for table in version_rows.read(served.folder, p.paths.clean, ("test",))
        for text in table["prompt"].to_pylist()
    ]
    chosen = [prompts[place] for place in explain.sample(len(prompts), given.prompts, seed=0)]
    models.use_threads(p.compute.threads)
    loaded = explain.load(served.folder, served.mode, served.max_length)
    found: dict[str, list[Versus]] = defaultdict(list)
    complete: Counter[bool] = Counter()
    left_out, start = 0, time.monotonic()
    for prompt in chosen:
        try:
            one = explain.explain(loaded, prompt, label=None, answer=None, max_new_tokens=given.max_new_tokens, seed=0)
        except ModelError:
            # The prompt is too long, or its answer is empty.
            left_out += 1
            continue
        complete[one.gradients.is_complete] += 1
        for versus in one.deletion.methods if one.deletion else ():
            found[versus.method].append(versus)
    print(
        f"{served.name}: {len(chosen)} of {len(prompts)} test prompts, {left_out} left out; {complete[True]} sums are "
        f"complete, {complete[False]} not; {time.monotonic() - start:.0f} s\n"
    )
    print("| | better | not better | worse | mean gain (95 % interval) |\n|---|---:|---:|---:|---|")
    for method, of_method in found.items():
        states = Counter(versus.state for versus in of_method)
        gains = metrics.mean("gain", np.array([versus.gain for versus in of_method]))
        gain = intervals.paired_bootstrap(gains, [0.0], resamples=2_000, seed=0)["gain"]
        bounds = "too few prompts" if gain.low is None else f"{gain.low:.3f} to {gain.high:.3f}"
        counts = " | ".join(str(states[state]) for state in ("better", "unsure", "worse"))
        print(f"| {method} | {counts} | {gain.difference:.3f} ({bounds}) |")


if __name__ == "__main__":
    main()
