# Sourced by the other scripts from the repository's root: the virtual environment .venv with the project in it, and
# npm packages in build/node.
# Needs a POSIX shell and Python 3.11 or newer, named by $PYTHON or found in PATH. shellcheck shell=sh

# new_enough PYTHON: it runs and is at least 3.11.
new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# find_python: prints the Python to make .venv with.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if ! new_enough "$PYTHON"; then
            echo "error: PYTHON=$PYTHON does not run, or is older than Python 3.11" >&2
            return 1
        fi
        echo "$PYTHON"
        return 0
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return 0
        fi
    done
    echo "error: no Python 3.11 or newer found in PATH; install one, or name it: PYTHON=/path/to/python3 $0" >&2
    return 1
}

# make_venv: creates .venv unless a working one is there.
make_venv() {
    if [ -x .venv/bin/python ] && new_enough .venv/bin/python && .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
        return 0
    fi
    python=$(find_python)
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        echo "error: $python has no venv module (on Debian and Ubuntu: apt-get install python3-venv)" >&2
        return 1
    fi
    echo "==> virtual environment .venv with $("$python" --version 2>&1)"
    rm -rf .venv
    "$python" -m venv .venv
}

# install_project [EXTRA]: an editable install of the project, skipped while pyproject.toml, this folder and the set of
# packages stay the same: the install lists the packages by name.
install_project() {
    make_venv
    requirement=".${1:+[$1]}"
    stamp=".venv/.installed${1:+-$1}"
    state=$(.venv/bin/python -c '
import hashlib, os, pathlib
tops = "src", "amalgamate", "exporters", "targets", "runtime_c", "web"
packages = sorted(p.parent.as_posix() for top in tops for p in pathlib.Path(top).rglob("__init__.py"))
text = "\n".join([os.getcwd(), *packages]).encode()
print(hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes() + text).hexdigest())')
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
        return 0
    fi
    echo "==> pip install --editable $requirement (the first time downloads some hundred megabytes)"
    rm -f "$stamp"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$requirement"
    printf '%s\n' "$state" >"$stamp"
}

# install_npm PACKAGE[@VERSION]...: npm packages in build/node, unless all are there. Fails where they cannot be had.
install_npm() {
    missing=
    for package in "$@"; do
        name=$(printf '%s' "$package" | sed 's/\(.\)@.*/\1/')
        [ -d "build/node/node_modules/$name" ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v npm >/dev/null 2>&1; then
        echo "==> npm is not installed"
        return 1
    fi
    echo "==> npm install$missing"
    mkdir -p build/node
    # shellcheck disable=SC2086
    npm install --silent --no-audit --no-fund --prefix build/node $missing >/dev/null
}
