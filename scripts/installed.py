"""Compares the packages in the running Python's environment with the locks; run by scripts/setup.sh.

.venv/bin/python scripts/installed.py check [EXTRA ...]      exit code 1 where they differ, with a line for each package
.venv/bin/python scripts/installed.py leftover [EXTRA ...]   what only another build of torch or another extra needs

An extra is one of pyproject.toml's optional dependencies, and has a lock of its own.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_LOCKS = ("requirements.lock", "requirements-torch.lock")
# A part of them: what decides over the bits of a model.
_OF_TRAINING = "requirements-training.lock"
# What setup.sh puts there itself.
_OF_SETUP = frozenset({"pip", "tuneline", "uv"})
# What a CUDA build of torch needs; scripts/lock.sh leaves the same names out of the lock.
_OF_CUDA = re.compile(r"nvidia-|cuda-|triton")


def pins(lines: Iterable[str]) -> dict[str, str]:
    """What the lines of a lock pin for this Python on this machine: name of the package -> version."""
    pinned = {}
    for line in lines:
        if text := line.partition("#")[0].strip():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate():
                (specifier,) = requirement.specifier
                pinned[canonicalize_name(requirement.name)] = specifier.version
    return pinned


def needed_by(package: str, requirements: Mapping[str, Iterable[str]]) -> set[str]:
    """`package` and every package that it needs here, directly or through others.

    Args:
        package: its name.
        requirements: of every installed package what its metadata requires, as in `cuda-toolkit[cudart]==13.2`.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [(package, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in requirements:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, requirements[name]):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, one) for one in ("", *requirement.extras)]
    return {name for name, _ in seen}


def differences(pinned: Mapping[str, str], installed: Mapping[str, str], of_torch: set[str]) -> Iterator[str]:
    """A line for each package that is not installed as it is pinned, and for each that is pinned nowhere.

    Args:
        pinned: package -> version, of the locks.
        installed: package -> version; a local part as in 2.13.0+cpu names a build, not another version.
        of_torch: what the installed build of torch needs; a CUDA build pins its packages itself.
    """
    for name, version in sorted(pinned.items()):
        if name not in installed:
            yield f"{name}: the locks pin {version}, and it is not installed"
        elif Version(installed[name]).public != Version(version).public:
            yield f"{name}: the locks pin {version}, and {installed[name]} is installed"
    unknown = sorted(installed.keys() - pinned.keys() - of_torch - _OF_SETUP)
    yield from (f"{name}: {installed[name]} is installed, and the locks do not pin it" for name in unknown)
    if unknown:
        yield (
            "a package that you need: add it to pyproject.toml and run scripts/lock.sh; one that you do not need: "
            f".venv/bin/python -m pip uninstall {' '.join(unknown)}"
        )


def _pinned(locks: Iterable[str]) -> dict[str, str]:
    return pins(line for lock in locks for line in Path(lock).read_text("utf-8").splitlines())


def main(command: str, *extras: str) -> None:
    """Print what `command` asks for; see the top of this file."""
    chosen = [f"requirements-{extra}.lock" for extra in extras]
    others = {path.name for path in Path().glob("requirements-*.lock")} - {*_LOCKS, *chosen, _OF_TRAINING}
    pinned, of_others = _pinned([*_LOCKS, *chosen]), _pinned(others)
    found = {canonicalize_name(one.name): one for one in metadata.distributions()}
    of_torch = needed_by("torch", {name: one.requires or [] for name, one in found.items()})
    if command == "leftover":
        loose = found.keys() - pinned.keys() - of_torch - _OF_SETUP
        print(*sorted(name for name in loose if _OF_CUDA.match(name) or name in of_others))
        return
    lines = list(differences(pinned, {name: one.version for name, one in found.items()}, of_torch))
    if lines:
        sys.exit("\n".join(f"setup: {line}" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
