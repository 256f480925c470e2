"""Streams that are closed, full, or without a reader: lost results are an error, lost remarks are not."""

import errno
import os
from pathlib import Path
import shlex
import subprocess

import pytest

from hubexport import ModuleSpec, build_modules
from hubexport.config_files import load_variant
from tests.command import command, environment

_FULL = os.strerror(errno.ENOSPC)
_needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
_BUILD = ("build", "--variant", "mobilenet_v2_035_96", "--module", "feature_vector/5", "--checkpoint", "synthetic")
_MODULE = Path("modules", "google", "imagenet", "mobilenet_v2_035_96", "feature_vector", "5")


def _shell(folder, redirections, *arguments, env=None):
    """Runs hubexport in bash with these redirections."""
    line = f"{shlex.join(command(*arguments))} {redirections}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env=environment(env),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A module for `hubexport inspect`."""
    folder = tmp_path_factory.mktemp("module")
    spec = ModuleSpec.parse("feature_vector/5")
    [path] = build_modules(load_variant("mobilenet_v2_035_96"), [spec], checkpoint="synthetic", output_dir=folder)
    return path


@pytest.mark.parametrize(
    ("redirection", "why"),
    [
        pytest.param(">&-", "it is closed", id="closed"),
        pytest.param(">/dev/full", _FULL, id="full", marks=_needs_full),
        pytest.param("<&- >&-", "it is closed", id="both closed", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        *(["list"], ["--help"], _BUILD),
        pytest.param(["list", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["--version"], marks=pytest.mark.slow),
        pytest.param(["--helpfull"], marks=pytest.mark.slow),
        pytest.param(["show-mapping", "--to", "keras"], marks=pytest.mark.slow),
        pytest.param(["show-mapping", "--to", "keras", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["fetch", "--list"], marks=pytest.mark.slow),
        pytest.param(["fetch", "--list", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["consumers", "list"], marks=pytest.mark.slow),
        pytest.param(["consumers", "list", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["verify", "--list-checks"], marks=pytest.mark.slow),
        pytest.param(["verify", "{module}", "--checks", "structure"], marks=pytest.mark.slow),
        pytest.param(["verify", "{module}", "--checks", "structure", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["inspect", "{module}", "--variables"], marks=pytest.mark.slow),
        pytest.param(["diff", "{module}", "{module}", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["release", "--checkpoint", "synthetic", "--dry-run"], marks=pytest.mark.slow),
        pytest.param(["release", "--checkpoint", "synthetic", "--dry-run", "--format", "json"], marks=pytest.mark.slow),
        pytest.param(["inspect", "{module}", "--format", "json"], marks=pytest.mark.slow),
    ],
    ids=lambda arguments: " ".join(word for word in arguments if word[:1].isalpha() or word[:2] == "--")[:40],
)
def test_results_that_cannot_be_written_are_an_error(tmp_path, module, arguments, redirection, why):
    """Stderr says so once, after the work is done."""
    done = _shell(tmp_path, redirection, *(argument.format(module=module) for argument in arguments))
    assert done.stderr.splitlines()[-3:] == [
        "ERROR cannot write to stdout",
        f"  why: {why}",
        "  fix: send stdout to a place that takes it, or to /dev/null",
    ]
    assert done.stderr.count("ERROR") == 1 and "Traceback" not in done.stderr
    assert done.returncode == 1
    if arguments is _BUILD:
        assert (tmp_path / _MODULE / "hubexport.json").is_file()


@pytest.mark.parametrize(
    "redirection",
    [
        "2>&-",
        "<&- 2>&-",
        pytest.param("2>/dev/full", marks=_needs_full),
        # Its reader goes after the first byte; the shell's own status is that of the build.
        "2> >(head -c1 >/dev/null)",
    ],
)
@pytest.mark.slow
def test_remarks_that_cannot_be_written_stop_nothing(tmp_path, module, redirection):
    """The module is built, byte for byte, and its path is printed."""
    done = _shell(tmp_path, redirection, *_BUILD)
    assert (done.stdout, done.returncode) == (f"{_MODULE}\n", 0)
    for path in filter(Path.is_file, module.rglob("*")):
        assert (tmp_path / _MODULE / path.relative_to(module)).read_bytes() == path.read_bytes()


def test_processes_of_a_build_need_no_streams(tmp_path):
    """They inherit no closed descriptors."""
    done = _shell(tmp_path, "<&- >&- 2>&-", *_BUILD, "--variant", "mobilenet_v2_050_96", "--jobs", "2")
    assert done.returncode == 1, "stdout is closed"
    assert len(list(tmp_path.rglob("hubexport.json"))) == 2


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_failures_keep_their_exit_status(tmp_path, redirection):
    """Even if stderr cannot be written."""
    done = _shell(tmp_path, redirection, "bild")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert redirection != ">&-" or done.stderr.startswith("ERROR hubexport: no command bild")
    assert "stdout" not in done.stderr, "nothing was to be written there"


def test_files_do_not_take_the_place_of_closed_streams(tmp_path):
    """Otherwise the output of libraries and child processes would go into these files."""
    program = (
        "import os, subprocess\n"
        "from hubexport.cli.streams import prepare_streams\n"
        "prepare_streams()\n"
        "with open('values', 'wb', buffering=0) as file:\n"
        "    file.write(str(file.fileno() > 2).encode())\n"
        "    os.write(2, b'stray')\n"
        "    subprocess.run(['sh', '-c', 'echo stray; echo stray >&2'], close_fds=False)\n"
        "    print('stray', flush=False)\n"
    )
    (tmp_path / "program.py").write_text(program)
    line = f"{shlex.quote(command()[0])} program.py <&- >&- 2>&-"
    subprocess.run(["bash", "-c", line], env=environment(), cwd=tmp_path, check=False, timeout=60)
    assert (tmp_path / "values").read_bytes() == b"True"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_paths_of_any_bytes_are_printed(tmp_path, encoding):
    """As the bytes on the disk, so that the next program finds the files."""
    folder = os.fsdecode(tmp_path.as_posix().encode() + b"/b\xff")
    line = f"{shlex.join(command(*_BUILD, '--output-dir'))} $'b\\xff'"
    done = subprocess.run(
        ["bash", "-c", line],
        env=environment({"PYTHONIOENCODING": encoding}),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr and done.returncode == 0
    assert done.stdout == b"b\xff/google/imagenet/mobilenet_v2_035_96/feature_vector/5\n"
    assert os.path.isdir(folder)


def test_output_is_unbuffered_if_python_is(tmp_path):
    """Many containers set PYTHONUNBUFFERED. Then nothing waits in a buffer."""
    program = (
        "import io, sys\n"
        "from hubexport.cli.streams import prepare_streams\n"
        "prepare_streams()\n"
        "print('a', end='')\n"
        "assert isinstance(sys.stdout.buffer, io.FileIO), sys.stdout.buffer\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run(
        [command()[0], "-u", "-c", program], env=environment(), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "a"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_non_blocking_pipe_loses_nothing(unbuffered):
    """Some programs make the pipes that they share non-blocking."""
    program = (
        "import os, sys\n"
        "os.set_blocking(1, False)\n"
        "from hubexport.cli.streams import prepare_streams\n"
        "prepare_streams()\n"
        "print('x' * 1_000_000)\n"
    )
    line = f"{shlex.quote(command()[0])} -c {shlex.quote(program)} | (sleep 0.3; wc -c)"
    env = environment({"PYTHONUNBUFFERED": unbuffered})
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1000001" and done.stderr == ""
