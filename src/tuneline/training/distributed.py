"""Several processes that train one model. torchrun's agent starts them, and restarts all of them if one is killed.

Each process takes a part of the rows of a batch. A loss is divided by the weight of its optimizer step over all
processes, so N processes and one process learn the same from the same rows. Only the order of float32 sums differs;
therefore the number of processes is a part of a model's identity. Only the first process writes and prints.
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
"""How often all processes are restarted after a kill; after more kills the cause is assumed to remain."""
_FAILURE = "TUNELINE_FAILURE"
# For a process that hangs. A process that has ended is noticed by its closed connection.
_PATIENCE = timedelta(minutes=30)
_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")

_HERE = "127.0.0.1"
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Environment of torchrun with which the processes create their own store."""

T = TypeVar("T")


def world() -> int:
    """The number of processes that train."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_worker() -> bool:
    """Whether torchrun's agent has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(stage: str, processes: int, *, threads: int, failure: Path) -> None:
    """Run a stage in several processes, which end when this process ends.

    Args:
        stage: the name of the stage; each process runs all of it.
        processes: the number of processes.
        threads: threads of one operation in each process.
        failure: the file in which a process writes why it cannot continue.

    Raises:
        TrainingError: a process cannot continue, or processes were killed too often.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    failure.unlink(missing_ok=True)
    # All processes are on this machine, so no host name has to be resolved.
    os.environ |= {"OMP_NUM_THREADS": str(threads), _FAILURE: str(failure), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # torch's default store listens on every network and unpickles what it receives. The agent's store is a file of
    # this user, and the processes create a local store.
    os.environ |= OWN_STORE
    options = ["--rdzv_backend", "c10d", "--rdzv_conf", "store_type=file", "--rdzv_id", str(uuid.uuid4())]
    options += ["--local_addr", _HERE, "--nproc_per_node", str(processes)]
    options += ["--max_restarts", str(RESTARTS), "--monitor_interval", "0.1"]
    try:
        with files.temporary_folder() as folder:
            options += ["--rdzv_endpoint", f"{folder}/rendezvous", "-m", "tuneline.stages", stage]
            config, command, arguments = run.config_from_args(run.parse_args(options))
            elastic_launch(config, command)(*arguments)
    except SignalException as stopped:
        # A process that cannot continue, or a person, has sent the signal.
        if failure.is_file():
            raise TrainingError(*json.loads(failure.read_text("utf-8"))) from None
        raise SystemExit(128 + int(stopped.sigval)) from None
    except ChildFailedError as error:
        number, first = min(error.failures.items(), key=lambda item: item[1].timestamp)
        how = f"was killed by {first.signal_name()}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
        raise TrainingError(
            f"process {number} of {processes} {how}, after {RESTARTS} restarts; look at the lines above and at the "
            "free memory (a lower finetune.nproc_per_node or per_device_train_batch_size needs less), then run the "
            "same command again: it continues from the last checkpoint"
        ) from None
    finally:
        failure.unlink(missing_ok=True)


@contextmanager
def together(processes: int, device: str) -> Iterator[None]:
    """Join the process group while the block runs; with one process do nothing.

    An error of the block that is a message for a person ends all processes without a restart.

    Args:
        processes: the number of processes that must have been started.
        device: cpu or cuda.

    Raises:
        SetupError: more or fewer processes were started.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) if is_worker() else 1
    if started != processes:
        raise SetupError(
            f"{started} processes were started, but finetune.nproc_per_node is {processes}; run the stage itself "
            "(dvc repro finetune), which starts the processes"
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
            print(f"a process of this training has died; restart {restarts} of {RESTARTS}", flush=True)
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
        # The agent ends this process too, and restarts all of them.
        sys.stderr.write(f"process {rank()}: another process of this training has ended\n")
        sys.exit(1)


def _store(number: int) -> TCPStore:
    """The store with the addresses of the processes; the first process keeps it, on this machine only."""
    port = int(os.environ["MASTER_PORT"])
    if number:
        return TCPStore(_HERE, port, is_master=False, wait_for_workers=False, timeout=_PATIENCE)
    listener = socket.create_server((_HERE, port)).detach()
    return TCPStore(_HERE, port, is_master=True, wait_for_workers=False, timeout=_PATIENCE, master_listen_fd=listener)


def _give_up(problems: Sequence[str]) -> NoReturn:
    """Write the problems and let the agent stop all processes, because a restart would end with the same problems."""
    failure = Path(os.environ[_FAILURE])
    temporary = failure.with_name(f"{failure.name}.{rank()}")
    temporary.write_text(json.dumps(list(problems)), "utf-8")
    temporary.replace(failure)
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
    """Name -> the sum divided by the weight, both over all processes."""
    summed = total([number for pair in found.values() for number in pair])
    pairs = zip(summed[::2], summed[1::2], strict=True)
    return {name: value / (weight or 1) for name, (value, weight) in zip(found, pairs, strict=True)}


def from_first(value: T) -> T:
    """The value of the first process, in all processes."""
    if world() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def gathered(name: str, content: bytes) -> dict[str, bytes]:
    """The files of all processes, in all processes: name -> content. The names must differ."""
    if world() == 1:
        return {name: content}
    found: list[tuple[str, bytes]] = [("", b"")] * world()
    distributed.all_gather_object(found, (name, content))
    return dict(found)


def wait() -> None:
    """Wait until all processes have called this."""
    if world() > 1:
        total([0.0])


def share(rows: slice, number: int, processes: int) -> slice:
    """The rows of a batch that process `number` takes; the sizes differ by one at most, and may be 0."""
    count = rows.stop - rows.start
    return slice(rows.start + count * number // processes, rows.start + count * (number + 1) // processes)


class Shares(Sampler[list[int]]):
    """This process's rows of each batch. If the last batch has no row for it, it takes a row that is not counted.

    Args:
        rows: planned rows of the training.
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
        """Whether this process has a row in a batch."""
        part = self._part(batch)
        return part.stop > part.start

    def _part(self, batch: int) -> slice:
        start = batch * self._batch
        return share(slice(start, min(start + self._batch, self._rows)), rank(), world())
