#!/bin/sh
# Prints the path of the Python that make uses. With an argument, that one (a command, like python3.13, or a path); without,
# the best supported one on this machine, on the PATH or below pyenv.
set -eu

# The first has the last TensorFlow with the real hub.Module, and most tests.
supported="3.11 3.12 3.13 3.10"
names="3.10, 3.11, 3.12 and 3.13"

# pyenv puts a command on the PATH for each Python that it has, chosen or not: only one that runs is there.
path_of() {
    "$1" -c 'import sys; print(sys.executable)' 2>/dev/null
}

find_python() {
    path_of "$1" && return
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"$1"; do
        path_of "$candidate" && return
    done
    return 1
}

if [ -n "${1:-}" ]; then
    python=$(find_python "$1") || {
        printf 'ERROR no Python at %s\n  why: it is neither on the PATH nor below pyenv, or it does not run\n' "$1" >&2
        printf '  fix: name another with PYTHON=, or leave that out; supported are %s\n' "$names" >&2
        exit 1
    }
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case " $supported " in
    *" $version "*) ;;
    *)
        printf 'ERROR Python %s is not supported\n  why: hubexport runs on %s\n' "$version" "$names" >&2
        printf '  fix: name another with PYTHON=, like PYTHON=python3.11\n' >&2
        exit 1
        ;;
    esac
    echo "$python"
    exit
fi
for version in $supported; do
    if python=$(find_python "python$version"); then
        echo "$python"
        exit
    fi
done
printf 'ERROR no supported Python\n  why: none of %s is on the PATH or below pyenv\n' "$names" >&2
printf '  fix: install one, or name it with PYTHON=/path/to/python\n' >&2
exit 1
