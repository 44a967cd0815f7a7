"""Several processes that train one model together: torchrun's agent starts them, and starts all of them again when one
is killed.

The rows of a batch are shared out. A loss is divided by the weight of its optimizer step over all processes, so that
N processes learn what one does from the same rows; they differ in the order of float32 sums, so that their number is a
part of a model's identity. What is logged is summed over all, and the first process alone writes and prints.
"""

import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
from torch import distributed
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.utils.data import Sampler

from tuneline.core import files
from tuneline.errors import SetupError, TrainingError, TunelineError, as_full_disk_error

RESTARTS = 3
"""How often all processes start again after one was killed: more kills than these have a cause that stays."""
_FAILURE = "TUNELINE_FAILURE"
# A peer that is gone is noticed by its closed connection; this is for one that hangs.
_PATIENCE = timedelta(minutes=30)
_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")

_HERE = "127.0.0.1"
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Of torchrun's environment: the processes make their store themselves."""

T = TypeVar("T")


def world() -> int:
    """How many processes train."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this one among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_worker() -> bool:
    """Whether an agent has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(stage: str, processes: int, *, threads: int, failure: Path) -> None:
    """Run a stage in several processes, which die with this one.

    Args:
        stage: its name; each process runs it as a whole and finds itself to be one of several.
        processes: how many.
        threads: of one operation in each.
        failure: a file in which a process leaves why it cannot go on.

    Raises:
        TrainingError: a process cannot go on, or processes were killed too often.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    failure.unlink(missing_ok=True)
    # The processes are neighbours: no name of this machine needs to be known to any server of names.
    os.environ |= {"OMP_NUM_THREADS": str(threads), _FAILURE: str(failure), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # A store of torch's listens to every network, and has its state unpickled: the agent's is a file of this user, and
    # the processes have one of their own.
    os.environ |= OWN_STORE
    options = ["--rdzv_backend", "c10d", "--rdzv_conf", "store_type=file", "--rdzv_id", str(uuid.uuid4())]
    options += ["--local_addr", _HERE, "--nproc_per_node", str(processes)]
    options += ["--max_restarts", str(RESTARTS), "--monitor_interval", "0.1"]
    try:
        with files.temporary_folder() as place:
            options += ["--rdzv_endpoint", f"{place}/rendezvous", "-m", "tuneline.stages", stage]
            config, command, arguments = run.config_from_args(run.parse_args(options))
            elastic_launch(config, command)(*arguments)
    except SignalException as stopped:
        # By a process that cannot go on, or by a person.
        if failure.is_file():
            raise TrainingError(*json.loads(failure.read_text("utf-8"))) from None
        raise SystemExit(128 + int(stopped.sigval)) from None
    except ChildFailedError as error:
        number, first = min(error.failures.items(), key=lambda item: item[1].timestamp)
        how = f"was killed by {first.signal_name()}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
        raise TrainingError(
            f"process {number} of {processes} {how}, after {RESTARTS} restarts; look at the lines above and at the "
            "memory that is free (finetune.nproc_per_node and per_device_train_batch_size lower what is needed), then "
            "run the same command again: it goes on from the last checkpoint"
        ) from None
    finally:
        failure.unlink(missing_ok=True)


@contextmanager
def together(processes: int, device: str) -> Iterator[None]:
    """Be one of `processes` while the block runs; of one process there is nothing to be.

    What ends the block as an error for a person stops all processes, without a restart.

    Args:
        processes: how many there must be.
        device: cpu or cuda.

    Raises:
        SetupError: there are more or fewer.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) if is_worker() else 1
    if started != processes:
        raise SetupError(
            f"{started} processes were started and finetune.nproc_per_node is {processes}; start the stage itself "
            "(dvc repro finetune), which starts them"
        )
    if processes == 1:
        yield
        return
    try:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        own = int(os.environ["RANK"])
        distributed.init_process_group(backend, store=_store(own), rank=own, world_size=started, timeout=_PATIENCE)
        assert world() == processes
        if rank():
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), 1)
        elif restarts:
            print(f"a process of this training died; restart {restarts} of {RESTARTS}", flush=True)
        yield
        wait()
        distributed.destroy_process_group()
    except TunelineError as error:
        _give_up(error.problems)
    except OSError as error:
        full = as_full_disk_error(error)
        if full is None:
            raise
        _give_up(full.problems)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LOST_PEER):
            raise
        # The agent ends this one too, and starts all of them again.
        sys.stderr.write(f"process {rank()}: another process of this training is gone\n")
        sys.exit(1)


def _store(number: int) -> TCPStore:
    """Where the processes find each other's addresses: kept by the first, and open to this machine alone."""
    port = int(os.environ["MASTER_PORT"])
    if number:
        return TCPStore(_HERE, port, is_master=False, wait_for_workers=False, timeout=_PATIENCE)
    listener = socket.create_server((_HERE, port)).detach()
    return TCPStore(_HERE, port, is_master=True, wait_for_workers=False, timeout=_PATIENCE, master_listen_fd=listener)


def _give_up(problems: Sequence[str]) -> NoReturn:
    """Leave word, and have the agent stop all processes: a restart would come to the same end."""
    failure = Path(os.environ[_FAILURE])
    beside = failure.with_name(f"{failure.name}.{rank()}")
    beside.write_text(json.dumps(list(problems)), "utf-8")
    beside.replace(failure)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
    sys.exit(1)


def total(values: Sequence[float]) -> list[float]:
    """Each value summed over all processes, in float64."""
    if world() == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(summed)
    return summed.tolist()


def means(found: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Name -> sum over weight, each over all processes."""
    summed = total([number for pair in found.values() for number in pair])
    pairs = zip(summed[::2], summed[1::2], strict=True)
    return {name: value / (weight or 1) for name, (value, weight) in zip(found, pairs, strict=True)}


def from_first(value: T) -> T:
    """What the first process has, in all of them."""
    if world() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def gathered(name: str, content: bytes) -> dict[str, bytes]:
    """A file's name and content of each process, whose names differ, in all of them."""
    if world() == 1:
        return {name: content}
    found: list[tuple[str, bytes]] = [("", b"")] * world()
    distributed.all_gather_object(found, (name, content))
    return dict(found)


def wait() -> None:
    """Until all processes are here."""
    if world() > 1:
        total([0.0])


def share(rows: slice, place: int, processes: int) -> slice:
    """The part of a batch's rows that is one process's: sizes differ by one at most, and may be none."""
    count = rows.stop - rows.start
    return slice(rows.start + count * place // processes, rows.start + count * (place + 1) // processes)


class Shares(Sampler[list[int]]):
    """This process's rows of batch after batch; where a last batch has none for it, one that is not counted.

    Args:
        rows: of the plan.
        size: rows of one process in a full batch.
    """

    def __init__(self, rows: int, size: int) -> None:
        self._rows = rows
        self._batch = size * world()

    def __len__(self) -> int:
        return -(-self._rows // self._batch)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(len(self)):
            part = self._part(batch)
            yield list(range(part.start, part.stop)) or [self._rows - 1]

    def counts(self, batch: int) -> bool:
        """Whether any row of a batch is this process's."""
        part = self._part(batch)
        return part.stop > part.start

    def _part(self, batch: int) -> slice:
        start = batch * self._batch
        return share(slice(start, min(start + self._batch, self._rows)), rank(), world())
