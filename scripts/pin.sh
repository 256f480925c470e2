#!/bin/sh
# Writes constraints/pythonVERSION.txt: the newest releases of everything that development needs, as pip finds them today.
#
# pin.sh [PYTHON]
set -eu

cd "$(dirname "$0")/.."
python=$(scripts/find_python.sh "${1:-}")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
3.10 | 3.11) held="tensorflow==2.15.1 tensorflow-hub==0.15.0" why=" TensorFlow 2.15 and tensorflow-hub 0.15 are the last with the real hub.Module." ;;
*) held="" why="" ;;
esac

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
"$python" -m venv "$scratch/environment"
# shellcheck disable=SC2086  # Several requirements, or none.
"$scratch/environment/bin/python" -m pip install --disable-pip-version-check ".[dev]" $held
{
    echo "# The development environment on Python $version, as scripts/pin.sh found it.$why"
    "$scratch/environment/bin/python" -m pip freeze --all --exclude hubexport --exclude pip --disable-pip-version-check
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" "constraints/python$version.txt"
