#!/bin/sh
# Makes .venv from requirements.lock; does nothing when .venv is already made from it.
#   PYTHON=python3.12       which Python; otherwise the first of python3, python3.13, python3.12, python3.11 that fits
#   TORCH=cpu|cuda          which build of torch; otherwise what pip's own settings offer (a wheel in a local folder),
#                           else the CPU build, or the CUDA build where nvidia-smi lists a GPU
#   EXTRAS=search,...       what else to install, as pyproject.toml names it (each has a requirements-NAME.lock); this is
#                           remembered for the next time. EXTRAS=none: nothing else
#   MIN_DISK_MB=4000        space wanted before installing; by default 4000, or 10000 for TORCH=cuda
set -u
cd "$(dirname "$0")/.." || exit 1

UV_VERSION=0.13.9
STAMP=.venv/installed-from

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# The same check as in src/tuneline/environment.py, before any download.
case $(pwd) in
*[?%\'\${}:[:cntrl:]]*)
    fail "$(pwd): the path of a project must not contain ? % ' \$ { } : or characters that cannot be printed, which MLflow," \
        "Prefect or DVC misread; rename the folder"
    ;;
esac

case "${TORCH:-}" in
'' | cpu | cuda) ;;
*) fail "TORCH=$TORCH: must be cpu or cuda" ;;
esac

# The first choice stays: another build of torch gives a model other bits.
CHOICE=.venv/torch-choice
chosen=$(cat "$CHOICE" 2>/dev/null || true)
[ -n "${TORCH:-}" ] || TORCH=$chosen

# So do the extras, until others are asked for.
CHOSEN=.venv/extras
[ -n "${EXTRAS:-}" ] || EXTRAS=$(cat "$CHOSEN" 2>/dev/null || true)
[ "$EXTRAS" != none ] || EXTRAS=
extras=$(printf '%s' "$EXTRAS" | tr ', ' '\n\n' | sed '/^$/d' | sort -u | tr '\n' ' ')
locks=
for extra in $extras; do
    case $extra in *[!a-z0-9-]*) lock= ;; *) lock=requirements-$extra.lock ;; esac
    case $extra in torch | training) lock= ;; esac
    if [ -z "$lock" ] || [ ! -f "$lock" ]; then
        known=$(ls requirements-*.lock | sed 's/requirements-\(.*\).lock/\1/' | grep -vE '^(torch|training)$' | tr '\n' ' ')
        fail "EXTRAS: '$extra' is unknown; known here: ${known% }"
    fi
    locks="$locks $lock"
done

# Word by word on purpose: these are names of files.
# shellcheck disable=SC2086
wanted=$(cat $locks requirements.lock requirements-torch.lock pyproject.toml scripts/setup.sh scripts/installed.py | cksum)
wanted="$wanted ${TORCH:-} $extras$(pwd)"
if [ -x .venv/bin/python ] && [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ] &&
    { [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" --version 2>&1)" = "$(.venv/bin/python --version)" ]; }; then
    exit 0
fi

# An installation would change the environment of the project that the link leads to.
[ ! -L .venv ] || fail ".venv is a link to $(readlink .venv), which is made from other files; remove the link: rm .venv"
command -v git >/dev/null 2>&1 || fail "git is not installed; DVC and the lineage of a model need it (Debian: apt install git)"
git rev-parse --git-dir >/dev/null 2>&1 || fail "$(pwd) is not a git repository; clone it, or run: git init && git add -A && git commit -m start"

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
python=
for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if fits "$candidate"; then
        python=$candidate
        break
    fi
    [ "$candidate" != "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 || true); Python 3.11, 3.12 or 3.13 is needed"
done
[ -n "$python" ] || fail "found $(python3 --version 2>&1 || echo no python3); Python 3.11, 3.12 or 3.13 is needed" \
    "install one and name it: make run PYTHON=/path/to/python3.12"

if [ "${TORCH:-}" = cuda ]; then default_disk=10000; else default_disk=4000; fi
needed=${MIN_DISK_MB:-$default_disk}
free=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free" -ge "$needed" ] || fail "$(pwd): $free MB free on the disk; $needed MB are needed (MIN_DISK_MB=... asks for less)"

echo "setup: installing into .venv with $("$python" --version)"
rm -f "$STAMP"
# One build of torch satisfies the version of another, so a changed choice needs a fresh environment.
if [ ! -x .venv/bin/python ] || ! fits .venv/bin/python || [ -n "${PYTHON:-}" ] || [ "${TORCH:-}" != "$chosen" ]; then
    rm -rf .venv
    "$python" -m venv .venv || fail "$python cannot make a virtual environment (Debian: apt install python3-venv)"
fi
# An environment that uv made has no pip.
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null 2>&1 ||
    fail ".venv has no pip and cannot get one; remove .venv and run the same command again"
pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip"

# uv reads none of pip's settings; without them it would pass over a wheel in a local folder.
setting() { $pip config list 2>/dev/null | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | tail -n 1; }
find_links=${PIP_FIND_LINKS:-$(setting find-links)}
index_url=${PIP_INDEX_URL:-$(setting index-url)}
certificate=${PIP_CERT:-$(setting cert)}
[ -z "$find_links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$find_links}"
[ -z "$index_url" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index_url}"
[ -z "$certificate" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificate}"

if $pip install --quiet "uv==$UV_VERSION"; then
    uv="env VIRTUAL_ENV=.venv .venv/bin/python -m uv pip"
    install="$uv install --quiet --compile-bytecode"
    uninstall="$uv uninstall --quiet"
    check="$uv check"
else
    echo "setup: uv could not be fetched; going on with pip, which takes longer"
    install="$pip install --quiet"
    uninstall="$pip uninstall --quiet --yes"
    check="$pip check"
fi

# The build of torch alone: what it needs comes from the default index, whatever index the build is from.
torch_from() { $install --no-deps -r requirements-torch.lock "$@"; }
install_torch() {
    case "$1" in
    # Not from a local folder, which may hold another build of the same version.
    cpu) (unset UV_FIND_LINKS PIP_FIND_LINKS && torch_from --index-url https://download.pytorch.org/whl/cpu) ;;
    cuda) (unset UV_FIND_LINKS PIP_FIND_LINKS && torch_from) ;;
    *)
        # A local folder of wheels first: it holds the build that was chosen for this machine.
        if [ -n "${UV_FIND_LINKS:-}" ] && torch_from --no-index --find-links "$UV_FIND_LINKS" 2>/dev/null; then
            return 0
        fi
        if nvidia-smi -L >/dev/null 2>&1; then
            install_torch cuda
        else
            install_torch cpu || {
                echo "setup: the index of CPU builds does not answer; taking torch from the default index"
                torch_from
            }
        fi
        ;;
    esac
}

failed="see the lines above: a name that was not found or a timeout is the network or the index; then run the same command again"
# The build of torch first, then what this build needs (a CUDA build needs gigabytes that a CPU build does not), then
# everything else exactly as it is pinned: nothing that comes later may choose another torch.
install_torch "${TORCH:-}" || fail "torch could not be installed" "$failed"
$install -r requirements-torch.lock --constraint requirements.lock ||
    fail "what torch needs could not be installed" "$failed"
$install --no-deps -r requirements.lock || fail "requirements.lock could not be installed" "$failed"
for lock in $locks; do
    $install --no-deps -r "$lock" || fail "$lock could not be installed" "$failed"
done
$install --no-deps --no-build-isolation --editable . || fail "the package itself could not be installed" "$failed"
# shellcheck disable=SC2086
leftover=$(.venv/bin/python scripts/installed.py leftover $extras) || fail "the packages in .venv could not be listed"
# Word by word on purpose: these are names of packages.
# shellcheck disable=SC2086
[ -z "$leftover" ] || { echo "setup: removing what is not needed any more: $leftover" && $uninstall $leftover; } ||
    fail "they could not be removed; remove .venv and run the same command again"
# shellcheck disable=SC2086
.venv/bin/python scripts/installed.py check $extras || exit 1
said=$($check 2>&1) || fail "$said" "requirements.lock does not hold together; run scripts/lock.sh, then the same command again"
build=$(.venv/bin/python -c 'import torch, transformers; print("cuda" if torch.version.cuda else "cpu")') ||
    fail "torch or transformers does not import; remove .venv and try again"
[ "${TORCH:-$build}" = "$build" ] || fail "TORCH=$TORCH: the index gave a $build build of torch"
[ -z "${TORCH:-}" ] || printf '%s' "$TORCH" >"$CHOICE"
printf '%s' "${extras% }" >"$CHOSEN"
printf '%s' "$wanted" >"$STAMP"
echo "setup: done"
