#!/bin/sh
# Writes constraints/pythonVERSION.txt: the newest releases of everything that development needs, as pip finds them today.
#
# pin.sh [PYTHON]
set -eu

cd "$(dirname "$0")/.."
python=$(scripts/find_python.sh "${1:-}")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# Pillow 13 decodes JPEG files to the very bytes from which tests' expected figures come; Python 3.10 has none.
# onnx 1.19 needs a newer ml_dtypes than TensorFlow 2.15 allows.
case $version in
3.10) held="tensorflow==2.15.1 tensorflow-hub==0.15.0 onnx<1.19" ;;
3.11) held="tensorflow==2.15.1 tensorflow-hub==0.15.0 pillow>=13 onnx<1.19" ;;
*) held="pillow>=13" ;;
esac

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
"$python" -m venv "$scratch/environment"
# shellcheck disable=SC2086  # Several requirements.
"$scratch/environment/bin/python" -m pip install --disable-pip-version-check --quiet --dry-run --ignore-installed \
    --report "$scratch/report.json" ".[dev]" $held
{
    echo "# The development environment on Python $version, as scripts/pin.sh found it, with $held."
    "$python" - "$scratch/report.json" <<'END'
import json, sys

packages = [found["metadata"] for found in json.load(open(sys.argv[1]))["install"]]
pins = [f"{package['name']}=={package['version']}" for package in packages if package["name"] != "hubexport"]
print(*sorted(pins, key=str.lower), sep="\n")
END
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" "constraints/python$version.txt"
