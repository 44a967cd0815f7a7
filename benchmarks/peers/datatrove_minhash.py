"""datatrove's four MinHash steps on a set of JSON lines, by its own defaults.

    PYTHON benchmarks/peers/datatrove_minhash.py SET WORK [--workers N]

PYTHON is one where `datatrove[processing,io]` and `spacy` are installed. Leaves WORK/clusters.json: `file:line` -> the
number of the row's cluster, of all rows that are in one.
"""

# The peer is installed in a Python of its own.
# pyright: reportMissingImports=false

import argparse
import json
import struct
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("set", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    files = sorted(arguments.set.glob("*.jsonl"))
    config = MinhashConfig()

    def at(name: str) -> str:
        return str(arguments.work.absolute() / name)

    def run(name: str, tasks: int, *steps: object) -> None:
        LocalPipelineExecutor(
            pipeline=list(steps), tasks=tasks, workers=arguments.workers, logging_dir=at(f"logs/{name}")
        ).run()

    reader = JsonlReader(str(arguments.set.absolute()), glob_pattern="*.jsonl")
    run("signatures", len(files), reader, MinhashDedupSignature(at("signatures"), config))
    run("buckets", config.num_buckets, MinhashDedupBuckets(at("signatures"), at("buckets"), config=config))
    run("clusters", 1, MinhashDedupCluster(at("buckets"), at("removed"), config=config, save_cluster_id=True))
    run("filter", len(files), reader, MinhashDedupFilter(at("removed")), JsonlWriter(at("kept")))
    clusters: dict[str, int] = {}
    # A task a file, so that the number of a document is its line, from 0.
    for number, file in enumerate(files):
        path = arguments.work / "removed" / f"{number:06d}.clusters"
        if path.exists():
            pairs = struct.iter_unpack("<2I", path.read_bytes())
            clusters |= {f"{file.name}:{document + 1}": cluster for document, cluster in pairs}
    (arguments.work / "clusters.json").write_text(json.dumps(clusters))


if __name__ == "__main__":
    main()
