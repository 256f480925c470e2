#!/bin/sh
# Makes a virtual environment with hubexport in it, unless it is there and up to date.
#
# environment.sh DIRECTORY EXTRAS WHAT_IS_FETCHED [PYTHON]
set -eu

directory=$1 extras=$2 fetched=$3
cd "$(dirname "$0")/.."
python=$(scripts/find_python.sh "${4:-}")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
constraints=constraints/python$version.txt

# What the environment was made from: the interpreter, what is to be installed, and where this checkout is. In setup.cfg,
# settings of tools come last, and make no difference.
wanted=$(echo "$python $extras $PWD" | cat - pyproject.toml "$constraints" | { cat; sed "/^\[flake8\]/,\$d" setup.cfg; } | cksum)
if [ "$(cat "$directory/made_from" 2>/dev/null)" = "$wanted" ]; then
    exit
fi
echo "Python $version ($python) goes into $directory, with hubexport[$extras]."
echo "pip fetches $fetched, unless they are in its cache. That is done once."
"$python" -m venv --clear "$directory"
"$directory/bin/python" -m pip install --disable-pip-version-check --constraint "$constraints" --editable ".[$extras]" || {
    printf 'ERROR cannot install hubexport[%s] into %s\n  why: pip failed, as it says above\n' "$extras" "$directory" >&2
    printf '  fix: look for a network and room on the disk, and run make again\n' >&2
    exit 1
}
echo "$wanted" >"$directory/made_from"
