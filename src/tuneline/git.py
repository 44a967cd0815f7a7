"""What git knows about the working tree. Only this file runs git."""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import GitError

_OF_HOOKS = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX")
# git's exit code for the answer no.
_NO = 1
_NO_REPOSITORY = "not a git repository"
_TRUSTED = re.compile(r"git config --global --add safe\.directory .+")
_INDEX = re.compile(r"index file|bad signature|bad index")
# Of the commits that this project makes itself, so that none needs a person's name.
_NAME, _EMAIL = "tuneline", "tuneline@localhost"
# A person's hooks are about a person's commits.
_WITHOUT_HOOKS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
# The time of a commit without a parent.
_LONG_AGO = "2000-01-01T00:00:00Z"


@dataclass(frozen=True)
class Change:
    """A file that differs from the last commit."""

    path: str
    """Relative to the working directory."""
    is_new: bool
    """Whether git does not know it yet."""
    is_staged: bool
    """Whether `git add` was run for it as it is."""


def changed_files() -> list[Change]:
    """The files below the working directory that differ from the last commit, ignored files left out.

    Returns:
        Empty without a repository.

    Raises:
        GitError: a repository exists, but git fails.
    """
    prefix = ask("rev-parse", "--show-prefix")
    listed = ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    found = []
    for entry in filter(None, listed.split("\0")):
        state, path = entry[:2], entry[3:]
        found.append(Change(path.removeprefix(prefix), is_new=state == "??", is_staged=state[1] == " "))
    return found


def held_lock() -> Path | None:
    """The lock file of a git that is changing the repository, or was killed then; None without such a file.

    Raises:
        GitError: a repository exists, but git fails.
    """
    place = ask("rev-parse", "--git-path", "index.lock")
    return Path(place) if place and Path(place).is_file() else None


def committed_text(path: Path) -> str:
    """The text of a file in the last commit, without the newline at its end; empty if the commit does not hold it.

    Args:
        path: relative to the working directory.

    Raises:
        GitError: a repository exists, but git fails.
    """
    blob = ask("rev-parse", "--verify", "--quiet", f"HEAD:./{path.as_posix()}")
    return ask("cat-file", "blob", blob) if blob else ""


def commit_working_tree(
    message: str, *, more: Iterable[str], is_wanted: Callable[[str], bool], withheld: Iterable[str] = ()
) -> str:
    """A commit of the working tree as it is, which no branch holds; its parent is HEAD.

    HEAD, the index and the working tree stay as they are, and no hook runs. The same tree on the same commit with the
    same message gives the same commit, in every clone.

    Args:
        message: of the commit.
        more: files that it holds in any case, also those that git ignores.
        is_wanted: called with the path of each file that HEAD lacks and git does not ignore: whether to add it.
        withheld: files that it holds as HEAD has them.

    Returns:
        Its sha; that of HEAD if nothing differs from it; empty if the working directory is not in a repository.

    Raises:
        GitError: a repository exists, but git fails.
    """
    if not ask("rev-parse", "--git-dir"):
        return ""
    head = ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    with tempfile.TemporaryDirectory() as folder:
        own = {"GIT_INDEX_FILE": f"{folder}/index"}
        # Bytes as they are, because DVC hashes them so.
        exactly = (*_WITHOUT_HOOKS, "-c", "core.autocrlf=false", "-c", "core.safecrlf=false")
        if head:
            _run(*exactly, "read-tree", head, variables=own)
        kept = [f":(exclude,literal){path}" for path in withheld]
        _run(*exactly, "add", "--update", "--", ".", *kept, variables=own)
        others = _run("ls-files", "--others", "--exclude-standard", "-z", "--", ".", variables=own).split("\0")
        # The slash at the end stands for another repository.
        added = {path for path in others if path and not path.endswith("/") and is_wanted(path)}
        added |= {path for path in more if Path(path).is_file()}
        names = "".join(f"{path}\0" for path in sorted(added - set(withheld)))
        _run(*exactly, "update-index", "--add", "-z", "--stdin", variables=own, stdin=names)
        _store_line_ends(exactly, kept, own)
        tree = _run("write-tree", variables=own)
    if head and ask("rev-parse", f"{head}^{{tree}}") == tree:
        return head
    when = ask("show", "--no-patch", "--format=%cI", head) if head else _LONG_AGO
    person = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in {"NAME": _NAME, "EMAIL": _EMAIL, "DATE": when}.items()
    }
    parent = ("-p", head) if head else ()
    return _run("commit-tree", "--no-gpg-sign", *parent, tree, variables=person, stdin=message)


def _store_line_ends(exactly: Sequence[str], left_out: Sequence[str], own: Mapping[str, str]) -> None:
    """Put files into the index as they are, whose line ends `git add` has changed as .gitattributes asks for."""
    changed = []
    for entry in filter(None, _run("ls-files", "--eol", "-z", "--", ".", *left_out, variables=own).split("\0")):
        ends, _, path = entry.partition("\t")
        stored, here = (word.partition("/")[2] for word in ends.split()[:2])
        if stored != here and Path(path).is_file() and not Path(path).is_symlink():
            changed.append(path)
    names = "".join(f"{path}\0" for path in changed)
    asked = _run("check-attr", "--stdin", "-z", "filter", stdin=names).split("\0")
    # A filter, such as that of git-lfs, keeps the content elsewhere.
    filtered = {path for path, value in zip(asked[::3], asked[2::3], strict=False) if value != "unspecified"}
    for path in changed:
        if path in filtered:
            continue
        blob = _run(*exactly, "hash-object", "-w", "--no-filters", "--", path)
        staged = _run("ls-files", "--stage", "-z", "--full-name", "--", f":(literal){path}", variables=own)
        mode, _, place = staged.rstrip("\0").partition("\t")
        line = f"{mode.split()[0]} {blob}\t{place}\0"
        _run(*exactly, "update-index", "-z", "--index-info", variables=own, stdin=line)


@contextmanager
def worktree(commit: str, folder: Path, *, keep: bool = False) -> Iterator[Path]:
    """Check out a commit into a folder of its own; no hook runs.

    Args:
        commit: its sha.
        folder: does not exist yet; its parent does.
        keep: whether the folder stays unless the block fails; else it is removed at the end.

    Yields:
        The folder in it that corresponds to the working directory.

    Raises:
        GitError: git fails, for example because an object is missing.
    """
    # A killed process has left the entry of a folder that is gone.
    for line in ask("worktree", "list", "--porcelain").splitlines():
        other = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and folder.parent.parent.resolve() in other.parents and not other.exists():
            _run("worktree", "remove", "--force", str(other))
    prefix = ask("rev-parse", "--show-prefix")
    exactly = (*_WITHOUT_HOOKS, "-c", "core.autocrlf=false")
    try:
        _run(*exactly, "worktree", "add", "--quiet", "--detach", str(folder), commit)
        yield folder / prefix
    except BaseException:
        keep = False
        raise
    finally:
        if folder.exists() and not keep:
            _run("worktree", "remove", "--force", str(folder))


def set_ref(name: str, commit: str) -> None:
    """Make a ref that keeps a commit; a ref of this name must not exist.

    Raises:
        GitError: git fails.
    """
    _run(*_WITHOUT_HOOKS, "update-ref", "--no-deref", name, commit, "")


def refs_below(prefix: str) -> dict[str, str]:
    """Name -> sha of the refs below a prefix, such as refs/tuneline; empty without a repository."""
    listed = ask("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    return {name: sha for sha, name in (line.split(" ", 1) for line in listed)}


def has_remote(name: str) -> bool:
    """Whether the repository has a remote of this name."""
    return name in ask("remote").splitlines()


def refs_of_remote(remote: str, prefix: str) -> dict[str, str]:
    """Name -> sha of the refs below a prefix that a remote has.

    Raises:
        GitError: the remote does not answer.
    """
    listed = _at_remote(remote, "ls-remote", "--quiet", remote, f"{prefix}/*").splitlines()
    found = {name: sha for sha, name in (line.split("\t", 1) for line in listed)}
    # git also lists refs that end like this, such as the branch refs/heads/refs/tuneline/model/v1.
    return {name: sha for name, sha in found.items() if name.startswith(f"{prefix}/")}


def push_refs(remote: str, wanted: Mapping[str, str]) -> None:
    """Make refs in a remote, with all commits that they need.

    Args:
        remote: its name.
        wanted: name of the ref there -> sha.

    Raises:
        GitError: the remote does not answer, or refuses.
    """
    specs = [f"{commit}:{name}" for name, commit in wanted.items()]
    _at_remote(remote, "push", "--quiet", "--no-verify", "--recurse-submodules=no", remote, *specs)


def fetch_refs(remote: str, wanted: Mapping[str, str]) -> None:
    """Fetch refs of a remote, with all commits that they need.

    Args:
        remote: its name.
        wanted: name of the ref there -> name of the ref here, which does not exist yet.

    Raises:
        GitError: the remote does not answer.
    """
    specs = [f"{there}:{here}" for there, here in wanted.items()]
    quietly = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    _at_remote(remote, "fetch", *quietly, remote, *specs)


def _at_remote(remote: str, *arguments: str) -> str:
    try:
        return _run(*_WITHOUT_HOOKS, *arguments)
    except GitError as error:
        reason = error.problems[0].partition("; repair what git reports")[0]
        raise GitError(
            f"{reason}; check the address of the remote '{remote}' and your rights there with: git remote -v && "
            f"git ls-remote {shlex.quote(remote)}"
        ) from None


def has_commit(commit: str) -> bool:
    """Whether the repository has a commit; its files may still be missing."""
    return bool(ask("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))


def is_kept(commit: str) -> bool:
    """Whether a ref keeps a commit, so that git never deletes it."""
    return bool(ask("for-each-ref", "--count=1", "--contains", commit))


def missing_objects(commit: str) -> list[str]:
    """The files and folders of a commit that the repository has lost, as the sha of each."""
    listed = ask("rev-list", "--objects", "--no-walk", "--no-object-names", "--missing=print", commit, "--")
    return [line.removeprefix("?") for line in listed.splitlines() if line.startswith("?")]


def files_of(commit: str) -> list[str]:
    """The files of a commit below the working directory, relative to it."""
    listed = ask("ls-tree", "-r", "-z", "--name-only", commit, "--", ".")
    return [path for path in listed.split("\0") if path]


def content_of(commit: str, path: str) -> bytes | None:
    """The bytes of a file of a commit; None if the commit does not hold it.

    Args:
        commit: its sha.
        path: relative to the working directory.

    Raises:
        GitError: git fails, for example because the object is damaged.
    """
    blob = ask("rev-parse", "--verify", "--quiet", f"{commit}:./{path}")
    if not blob:
        return None
    return _run("cat-file", "blob", blob, is_exact=True).encode("utf-8", "surrogateescape")


def ask(*arguments: str) -> str:
    """The output of `git ARGUMENTS…`, without the newline at its end.

    Args:
        arguments: a command that exits with code 1 for the answer no, and with another code when git fails.

    Returns:
        The output; empty for the answer no, or if the working directory is not in a repository.

    Raises:
        GitError: a repository exists, but git fails; with git's message and the remedy.
    """
    return _run(*arguments, may_deny=True)


def _run(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    stdin: str = "",
    may_deny: bool = False,
    is_exact: bool = False,
) -> str:
    """As `ask`.

    Args:
        arguments: of git.
        variables: more environment.
        stdin: the input.
        may_deny: whether exit code 1 is the answer no, and not a failure.
        is_exact: keep the newline at the end of the output.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            # Without the translation of line ends that text mode makes.
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            # English messages, because they are searched; and git must not wait for another git.
            env=_environment() | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"} | dict(variables or {}),
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        repository = _repository()
        if repository is None:
            return ""
        raise GitError(
            f"{repository}: is this project's repository, but git cannot be run ({error.strerror}); install git, or "
            "put it on the PATH"
        ) from None
    output, message = (one.decode("utf-8", "surrogateescape") for one in (done.stdout, done.stderr))
    if done.returncode == 0:
        return output if is_exact else output.rstrip("\n")
    if (may_deny and done.returncode == _NO) or (_NO_REPOSITORY in message and _repository() is None):
        return ""
    command = next(argument for argument in arguments if re.fullmatch("[a-z]+-?[a-z-]*", argument))
    raise GitError(_problem(command, message.strip() or f"exit code {done.returncode}"))


def _environment() -> dict[str, str]:
    """The environment for git, without what git sets for its hooks.

    With GIT_DIR alone git takes the working directory for the top of the repository, and a relative path of an index is
    not valid below the top.
    """
    if "GIT_WORK_TREE" in os.environ:
        # A person has set all of them.
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}


def _repository() -> Path | None:
    """The `.git` of the working directory or of a folder above it; an empty folder of that name does not count."""
    here = Path.cwd()
    for place in (folder / ".git" for folder in (here, *here.parents)):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            return place
    return None


def _problem(command: str, message: str) -> str:
    """git's message and the remedy, in a line."""
    if trusted := _TRUSTED.search(message):
        first = message.splitlines()[0]
        return f"git {command}: {first}; if you trust its content: {trusted[0]}"
    words = " ".join(message.split())
    if _INDEX.search(words):
        index = shlex.quote(_index())
        return f"git {command}: {words}; make a new index, which does not change your files: rm {index} && git reset"
    if _NO_REPOSITORY in words:
        return f"git {command}: {words}, although {_repository()} exists; restore it, or move it away"
    return f"git {command}: {words}; repair what git reports, and check with: git status"


def _index() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--git-path", "index"],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else ".git/index"
