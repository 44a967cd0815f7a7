"""First on PYTHONPATH of any training: writes when each optimizer step ended, for any training loop.

At the end of the process the times, seconds of one clock, go to the file that TUNELINE_BENCH_STEPS names; a process
that took no step writes nothing.
"""

import atexit
import importlib.util
import json
import os
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path

_MODULE = "torch.optim.optimizer"
_times: list[float] = []


class _Hooked(Loader):
    """Loads the module as always, then asks it to tell of each step."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        module.register_optimizer_step_post_hook(lambda *_: _times.append(time.monotonic()))


class _Finder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            spec.loader = _Hooked(spec.loader)
        return spec


def _write():
    if _times:
        Path(os.environ["TUNELINE_BENCH_STEPS"]).write_text(json.dumps(_times))


if "TUNELINE_BENCH_STEPS" in os.environ:
    sys.meta_path.insert(0, _Finder())
    atexit.register(_write)
