"""data-juicer's MinHash deduplicator on a set of JSON lines, by its own defaults.

    PYTHON benchmarks/peers/juicer_minhash.py SET WORK

PYTHON is one where `py-data-juicer` is installed. Leaves WORK/clusters.json: `file:line` -> the number of the row's
cluster, of all rows that are in one.
"""

# The peer is installed in a Python of its own.
# pyright: reportMissingImports=false

import json
import sys
from collections import Counter
from pathlib import Path

from data_juicer.core.data import NestedDataset
from data_juicer.ops.common.helper_func import UnionFind
from data_juicer.ops.deduplicator import document_minhash_deduplicator
from datasets import load_dataset


def main(folder: Path, work: Path) -> None:
    finders: list[UnionFind] = []

    class Kept(UnionFind):
        """The deduplicator does not hand out its clusters."""

        def __init__(self) -> None:
            super().__init__()
            finders.append(self)

    document_minhash_deduplicator.UnionFind = Kept
    paths = sorted(folder.glob("*.jsonl"))
    dataset = load_dataset(
        "json", data_files=[str(path) for path in paths], split="train", cache_dir=str(work / "cache")
    )
    operator = document_minhash_deduplicator.DocumentMinhashDeduplicator()
    hashed = NestedDataset(dataset).map(operator.compute_hash)
    kept, _ = operator.process(hashed)
    kept.to_json(str(work / "kept.jsonl"))
    places = [f"{path.name}:{line}" for path in paths for line in range(1, _lines(path) + 1)]
    clusters = {place: finders[0].find(row) for row, place in enumerate(places)}
    sizes = Counter(clusters.values())
    several = {place: cluster for place, cluster in clusters.items() if sizes[cluster] > 1}
    (work / "clusters.json").write_text(json.dumps(several))


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
