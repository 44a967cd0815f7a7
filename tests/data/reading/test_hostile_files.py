"""Hostile and odd files get the exact verdict, reason and line; never a crash, a hang or a lost row."""

import gzip
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hostile_files import CASES, ROW, Case, parquet

from tuneline.commands import inspection
from tuneline.data.reading.raw_rows import Options

VERDICTS = {
    "accepted": inspection.ACCEPTED,
    "some": inspection.PARTLY,
    "empty": inspection.EMPTY,
    "refused": inspection.REFUSED,
}
MB = 1_000_000


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_verdict_reason_and_line_of_a_hostile_file(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    report = inspection.inspect([path], inspection.How(Options(**case.options)))  # type: ignore[arg-type]
    (file,) = (file for file in report["files"] if file["path"] == str(tmp_path / (case.file or case.name)))
    rejected = tuple((row["line"], row["offset"], row["reason"]) for row in file["rejected"])
    assert (file["verdict"], rejected, file["accepted"]) == (VERDICTS[case.verdict], case.rejected, case.rows)
    assert file["rows"] == len(case.rejected) + case.rows
    assert case.message in "\n".join([file["message"] or "", *file["warnings"]])
    if case.verdict == "refused":
        assert file["message"].startswith(file["path"])
    assert [left.name for left in tmp_path.iterdir()] == [case.name]


WATCHED = """
import re, sys
from pathlib import Path
from tuneline.cli import cli
try:
    cli()
finally:
    # Not ru_maxrss, which starts at the memory of the parent process.
    print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


def run(*arguments: str | Path, cwd: Path) -> tuple[int, dict[str, Any], int]:
    """Exit code, report and peak memory in bytes of `tuneline inspect --json` in a process of its own."""
    command = [sys.executable, "-c", WATCHED, "inspect", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, cwd=cwd, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout), int(done.stderr) * 1024


def test_pipes_links_and_devices_are_refused_without_reading_them(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe.txt")
    (folder / "good.jsonl").write_bytes(ROW)
    code, report, _ = run("set", "set/pipe.txt", "set/link.txt", "/dev/zero", "nothing", cwd=tmp_path)
    assert code == 1
    said = {
        file["path"]: (file["message"] or file["verdict"]).removeprefix(file["path"])[:27] for file in report["files"]
    }
    assert said == {
        "set/good.jsonl": "accepted",
        "set/link.txt": ": is a symbolic link to " + str(tmp_path)[:3],
        "set/loop": ": is a symbolic link to " + str(tmp_path)[:3],
        "set/pipe.txt": ": is a named pipe, not a re",
        "set/self": ": is a symbolic link to sel",
        "/dev/zero": ": is a device, not a regula",
        "nothing": ": no such file or folder; `",
    }


class Bait:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    bait = tmp_path / "caught"
    for protocol in range(6):
        (tmp_path / f"{protocol}.jsonl").write_bytes(pickle.dumps(Bait(bait), protocol))
    with zipfile.ZipFile(tmp_path / "model.bin", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Bait(bait)))
    code, report, _ = run(".", cwd=tmp_path)
    assert code == 1
    assert all("pickle" in file["message"] for file in report["files"])
    assert len(report["files"]) == 7
    assert not bait.exists()


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    zeros = b"0" * MB
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.txt", "w") as file,
    ):
        for _ in range(100):
            file.write(zeros)
    with gzip.open(tmp_path / "lines.jsonl.gz", "wb") as file:
        file.write(ROW * 100_000)
        for _ in range(200):
            file.write(b"[" * MB)
    with pa.CompressedOutputStream(pa.OSFile(str(tmp_path / "bomb.zst"), "wb"), "zstd") as file:
        for _ in range(100):
            file.write(zeros)
    with (tmp_path / "one-line.json").open("wb") as file:
        file.write(b'[{"text": "')
        file.writelines(zeros for _ in range(100))
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["x" * (MB - 1)]))
    # 2,000 rows share one value of 1 MB, which the file contains once.
    (tmp_path / "dictionary.parquet").write_bytes(parquet({"text": texts}, compression="NONE"))
    code, report, peak = run(".", cwd=tmp_path)
    assert code == 1
    messages = {file["path"]: file["message"] or file["verdict"] for file in report["files"]}
    assert "times its size" in messages["bomb.zip/a.txt"]
    assert "times its size" in messages["lines.jsonl.gz"]
    assert "times its size" in messages["bomb.zst"]
    assert "one value of more than 32,000,000 bytes" in messages["one-line.json"]
    assert messages["dictionary.parquet"] == "accepted"
    assert peak < 300 * MB


def test_a_sparse_file_of_any_size_takes_little_memory_and_time(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jsonl").open("wb") as file:
        file.write(ROW)
        file.truncate(1 << 30)
    code, report, peak = run("sparse.jsonl", cwd=tmp_path)
    assert code == 1
    assert "zero bytes" in report["files"][0]["message"]
    assert peak < 300 * MB
