"""Write the built-in corpus: docstrings of the installed Python and of libraries, as pairs and as complete texts.

python -m tuneline.stages sample
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tuneline import params, processes
from tuneline.core import files
from tuneline.corpus import docstrings

_MODULES_AT_ONCE = 16


def main(p: params.Params) -> None:
    """Write both raw sets."""
    pairs: list[docstrings.Pair] = []
    texts: list[docstrings.Text] = []
    version = ".".join(map(str, sys.version_info[:3]))
    sources = {f"Python {version}": docstrings.standard_library()}
    sources |= {name: docstrings.library(name) for name in p.sample.libraries}
    with ProcessPoolExecutor(initializer=processes.die_with_parent, initargs=(os.getpid(),)) as pool:
        each = partial(pool.map, chunksize=_MODULES_AT_ONCE)
        for name, modules in sources.items():
            new_pairs, new_texts = docstrings.corpus(modules, each)
            size = sum(len(row.text.encode()) for row in new_texts) / 1e6
            print(f"{name}: {len(modules)} modules, {len(new_pairs)} pairs, {len(new_texts)} texts of {size:.1f} MB")
            pairs += new_pairs
            texts += new_texts
    with files.atomic_folder(Path(p.paths.sample)) as folder:
        files.write_jsonl(folder / "pairs.jsonl", (row._asdict() for row in pairs))
    with files.atomic_folder(Path(p.paths.sample_text)) as folder:
        files.write_jsonl(folder / "docstrings.jsonl", (row._asdict() for row in texts))
    print(f"written: {len(pairs)} pairs to {p.paths.sample}, {len(texts)} texts to {p.paths.sample_text}")
