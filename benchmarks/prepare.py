"""The speed and the accuracy of `prepare`, on a set with known duplicates and leaks.

    python benchmarks/prepare.py [--size 100MB] [--workers 1,2] [--repeats 3] [--profile]
                                 [--peer-python PYTHON_WITH_DATATROVE] [--juicer-python PYTHON_WITH_DATA_JUICER]

A set of the given size with planted duplicates and leaks is made from the built-in corpus (benchmarks/planted.py).
The benchmark runs on it: the complete stage, as `python -m tuneline.stages prepare` in its own project; the lower
bound, parsing and hashing every row; and the peers, on duplicates only. It prints tables in Markdown.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import measuring
import orjson
import planted
import scoring
import xxhash
from measuring import Usage
from scoring import Score

from tuneline.core import files
from tuneline.params import editing

ROOT = Path(__file__).resolve().parent.parent
RAW, PRETRAINING = "data/raw/planted", "data/raw/pretraining"
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_OF_A_PROJECT = ("MLFLOW_", "PREFECT_", "TUNELINE_", "DVC_")
_PRETRAINING_ROWS = 400
_NAMED_FUNCTIONS = 20
_FLOOR = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import prepare
print(min(prepare.floor(Path(sys.argv[2])).wall for _ in range(5)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=_bytes, default="100MB", help="of the set, as in 100MB or 1GB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=lambda text: [int(n) for n in text.split(",")], default="1,2")
    parser.add_argument("--repeats", type=int, default=3, help="of each number of workers, interleaved")
    parser.add_argument("--profile", action="store_true", help="once more with one worker: where the time goes")
    parser.add_argument("--peer-python", type=Path, help="a Python in which datatrove is installed")
    parser.add_argument("--juicer-python", type=Path, help="a Python in which data-juicer is installed")
    parser.add_argument(
        "--work", type=Path, help="a folder to keep: the set is made only once; default: a temporary one"
    )
    arguments = parser.parse_args()
    with _folder(arguments.work) as work:
        measure(work, arguments)


def measure(work: Path, arguments: argparse.Namespace) -> None:
    project = work / "project"
    if not (work / "made.json").is_file():
        make(project, work, arguments.size, arguments.seed)
    made = files.read_json(work / "made.json")
    if made["recipe"] != _recipe(arguments.size, arguments.seed):
        raise SystemExit(f"{work} holds a set of another size, seed or code; name another folder")
    truth = scoring.read_truth(work / "truth.jsonl")
    megabytes = made["bytes"] / 1e6
    plants = ", ".join(f"{count:,} {kind}" for kind, count in made["plants"].items())
    print(f"{megabytes:,.0f} MB, {made['rows']:,} rows; planted: {plants}", flush=True)

    usages: list[tuple[str, Usage]] = []
    best: dict[int, float] = {}
    digests: set[str] = set()
    for _ in range(arguments.repeats):
        for workers in arguments.workers:
            usage = prepare(project, workers)
            _note(f"prepare, workers: {workers}", usage)
            usages.append((f"the whole chain, workers: {workers}", usage))
            best[workers] = min(best.get(workers, usage.wall), usage.wall)
            digests.add(_digest(project))
    scores = {"the whole chain": scoring.of_project(project, RAW, truth)}
    rows_in = files.read_json(project / "reports" / "prepare.json")["raw"]["rows_in"]
    assert rows_in == made["rows"], f"{made['rows']} rows were written, {rows_in} were read"
    usages.append(("parse and hash alone", floor(project / RAW)))
    print_limit(project / RAW)
    peers = [
        ("datatrove, MinHash", "datatrove_minhash.py", arguments.peer_python),
        ("data-juicer, MinHash", "juicer_minhash.py", arguments.juicer_python),
    ]
    for name, script, python in peers:
        if python:
            usage, scores[name] = peer(work, python, script, truth)
            usages.append((name, usage))
            _note(name, usage)
    print_speed(usages, megabytes)
    if len(best) > 1:
        first, *others = best
        for workers in others:
            ratio = best[first] / best[workers]
            print(f"\n{workers} workers are {ratio:.2f} times as fast as {first} (best of {arguments.repeats})")
    same = "the same bytes" if len(digests) == 1 else f"{len(digests)} DIFFERENT outputs"
    print(f"\nall runs of the chain gave {same}: {', '.join(sorted(digest[:16] for digest in digests))}")
    print_quality(scores)
    if arguments.profile:
        print_profile(project)


def make(project: Path, work: Path, size: int, seed: int) -> None:
    """A project with the built-in corpus, and in it the planted set and a small one for pretraining."""
    shutil.rmtree(work, ignore_errors=True)
    for name in ("params.yaml", "mlflow/tuneline.env"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, project / name)
    measuring.run([sys.executable, "-m", "tuneline.stages", "sample"], project, environment())
    docstrings = project / files_of_sample(project)
    with docstrings.open("rb") as file:
        texts = planted.distinct([orjson.loads(line)["text"] for line in file])
    made = planted.make(texts, project / RAW, work / "truth.jsonl", size=size, seed=seed)
    rename = planted.Renaming(f"pretraining {seed}")
    rows = ({"text": rename(text)} for text in texts[:_PRETRAINING_ROWS])
    files.write_jsonl(project / PRETRAINING / "texts.jsonl", rows)
    values = {
        "task": "language-modeling",
        "data.raw": RAW,
        "data.pretraining": PRETRAINING,
        "data.split.group_by": None,
        "gate.rules": [{"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}],
    }
    editing.set_values(project / "params.yaml", values)
    files.write_json(work / "made.json", {"recipe": _recipe(size, seed), **made._asdict()})


def _recipe(size: int, seed: int) -> list[int | str]:
    """What the made set depends on."""
    return [size, seed, *(files.sha256_file(ROOT / "benchmarks" / name) for name in ("planted.py", "renaming.py"))]


def files_of_sample(project: Path) -> Path:
    (found,) = (project / "data/raw/python-text").glob("*.jsonl")
    return found.relative_to(project)


def prepare(project: Path, workers: int, *, profile: Path | None = None) -> Usage:
    """Run the stage once, from nothing."""
    for name in ("data/clean", "data/pretraining", "reports", "work"):
        shutil.rmtree(project / name, ignore_errors=True)
    editing.set_values(project / "params.yaml", {"data.workers": workers})
    how = [str(ROOT / "benchmarks/profiled.py"), str(profile)] if profile else ["-m"]
    return measuring.run([sys.executable, *how, "tuneline.stages", "prepare"], project, environment())


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_PROJECT)}
    return own | {"PYTHONPATH": str(ROOT / "src")}


def floor(folder: Path) -> Usage:
    """Parse every line and hash every text: what no chain can do without."""
    started, cpu = time.monotonic(), time.process_time()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            for line in file:
                xxhash.xxh3_64_intdigest(orjson.loads(line)["text"].encode())
    return Usage(wall=time.monotonic() - started, cpu=time.process_time() - cpu)


def print_limit(folder: Path) -> None:
    """How much faster two processes can be on this machine: each parses and hashes all, first alone, then both."""
    command = [sys.executable, "-c", _FLOOR, str(ROOT / "benchmarks"), str(folder)]
    seconds = []
    for processes in (1, 2):
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        seconds.append(max(float(process.communicate()[0]) for process in running))
    print(
        f"\ntwo processes that parse and hash, and share nothing, are {2 * seconds[0] / seconds[1]:.2f} times as fast"
    )


def peer(work: Path, python: Path, script: str, truth: Sequence[planted.Plant]) -> tuple[Usage, Score]:
    """Another tool on the same set, with one worker and its own defaults."""
    folder = work / script.removesuffix(".py")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [
        str(python.absolute()),
        str(ROOT / "benchmarks/peers" / script),
        str(work / "project" / RAW),
        str(folder),
    ]
    usage = measuring.run(command, folder, dict(os.environ))
    return usage, scoring.of_clusters(list(truth), files.read_json(folder / "clusters.json"))


def print_speed(usages: Sequence[tuple[str, Usage]], megabytes: float) -> None:
    print("\n| | wall s | CPU s | MB/CPU-s | processes | largest MB | all MB | not shared MB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, usage in sorted(usages, key=lambda one: (one[0], one[1].wall)):
        memory = [f"{size / 1e6:,.0f}" if size else "" for size in (usage.largest, usage.total, usage.unique)]
        cells = [f"{usage.wall:.1f}", f"{usage.cpu:.1f}", f"{megabytes / usage.cpu:.2f}", str(usage.processes or "")]
        print(f"| {' | '.join([name, *cells, *memory])} |")


def print_quality(scores: dict[str, Score]) -> None:
    print(f"\n| | {' | '.join(scores)} |\n|---|{'---:|' * len(scores)}")
    kinds = sorted({kind for score in scores.values() for kind in score.planted})
    for kind in kinds:
        print(f"| {kind} | {' | '.join(score.share(kind) for score in scores.values())} |")
    print(f"| false merges | {' | '.join(str(score.false_merges) for score in scores.values())} |")
    print(f"| leaks found | {' | '.join(score.leaks for score in scores.values())} |")
    print(f"| rows in pieces kept from training | {' | '.join(score.spread for score in scores.values())} |")
    print(f"| rows with a disclaimer flagged | {' | '.join(score.boilerplate for score in scores.values())} |")
    flagged = ("" if score.clean_flagged is None else str(score.clean_flagged) for score in scores.values())
    print(f"| clean rows flagged | {' | '.join(flagged)} |")
    print(
        "\nThe Jaccard similarity of near duplicates is that of character 5-grams; the peers compare runs of 5 words, "
        "in which one word changed counts for five. They do not look for leaks."
    )
    for name, score in scores.items():
        for note in score.notes:
            print(f"\n{name}: {note}")


def print_profile(project: Path) -> None:
    result = project / "profile.json"
    usage = prepare(project, 1, profile=result)
    found = json.loads(result.read_text())
    print(f"\nwith one worker: {usage.cpu:.1f} CPU s, {found['total']:.1f} of them in the stage's process")
    ours = {name: seconds for name, seconds in found["within"].items() if name.startswith("tuneline/")}
    for title, functions in (("in the function itself", found["own"]), ("in it and what it calls", ours)):
        print(f"\n| {title} | CPU s | share |\n|---|---:|---:|")
        functions = Counter(functions)
        for name, seconds in functions.most_common(_NAMED_FUNCTIONS):
            print(f"| `{name}` | {seconds:.2f} | {seconds / found['total']:.1%} |")


def _digest(project: Path) -> str:
    trees = [files.sha256_tree(project / name) for name in ("data/clean", "data/pretraining")]
    return files.digest([*trees, files.sha256_file(project / "reports" / "quarantine.jsonl")])


def _note(name: str, usage: Usage) -> None:
    print(f"{name}: {usage.wall:.1f} s, load average {os.getloadavg()[0]:.2f}", file=sys.stderr, flush=True)


def _bytes(text: str) -> int:
    number, unit = text[:-2], text[-2:].upper()
    if unit not in _UNITS or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number and KB, MB or GB, as in 100MB")
    return int(number) * _UNITS[unit]


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    if path is not None:
        yield path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
        yield Path(temporary) / "work"


if __name__ == "__main__":
    main()
