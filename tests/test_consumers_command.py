"""`hubexport consumers`: what it lists, sets up and removes, here with tiny consumers in a cache of their own."""

import argparse
import fcntl
import json
from pathlib import Path
import subprocess
import sys
import threading

import pytest

from hubexport.cli import consumers as command
from hubexport.consumers import environments, registry
from hubexport.consumers.environments import Environment
from hubexport.consumers.registry import PinnedConsumer, installed, select_consumers, why_not_applicable
from hubexport.errors import ConsumerError
from tests.command import environment

_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# A Python whose `-m venv` and pip take no time: pip fails if the requirements say so.
_QUICK_PYTHON = """\
#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
else
    eval "last=\\${$#}"
    if grep -q impossible "$last"; then
        echo 'Collecting impossible' >&2
        echo 'ERROR: No matching distribution found for impossible' >&2
        exit 7
    fi
fi
"""


class _Place:
    """A cache and consumers that `hubexport consumers` knows instead of the real ones."""

    def __init__(self, folder, monkeypatch, capsys):
        self.cache = folder / "cache"
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._consumers = []
        self._quick_python = folder / "quick_python"
        self._quick_python.write_text(_QUICK_PYTHON)
        self._quick_python.chmod(0o755)
        monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(self.cache))

    def quick(self):
        """Lets making an environment take no time."""
        self._monkeypatch.setattr(environments, "find_python", lambda _: str(self._quick_python))

    def add(self, name, requirements="", python=_HERE, tensorflow="2.15.1", tensorflow_hub="0.15.0"):
        """Makes one known, and returns its environment."""
        file = self._folder / f"{name}.txt"
        file.write_text(requirements)
        made = Environment(name, python, file)
        self._consumers.append(PinnedConsumer(name, python, tensorflow, tensorflow_hub, made))
        self._monkeypatch.setattr(registry, "CONSUMERS", tuple(self._consumers))
        return made

    def run(self, *arguments):
        """Returns the exit status, stdout and stderr; an error as the command line prints it."""
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        args = parser.parse_args(arguments)
        try:
            status = command.run(args)
        except ConsumerError as error:
            print(f"ERROR {error}", file=sys.stderr)
            status = 1
        return status, *self._capsys.readouterr()

    def listed(self):
        """What `list --format json` says, by name."""
        status, out, _ = self.run("list", "--format", "json")
        assert status == 0
        return {one["name"]: one for one in json.loads(out)}


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    """See above."""
    return _Place(tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_create_makes_an_environment_once_and_remove_deletes_it(place):
    """A real one, with nothing in it."""
    made = place.add("tiny")
    assert place.listed()["tiny"]["state"] == "not set up"
    assert place.run("create", "tiny", "tiny") == (
        0,
        f"tiny          {made.interpreter}\n",
        f"setting up tiny with Python {_HERE}\n",
    )
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    done = subprocess.run([made.interpreter, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [_HERE, str(made.folder)]
    assert place.run("create", "all") == (0, f"tiny          {made.interpreter}\n", "")
    listed = place.listed()["tiny"]
    assert (listed["state"], listed["interpreter"]) == ("set up", str(made.interpreter))
    assert place.run("remove", "tiny") == (0, f"{made.folder}\n", "")
    assert not made.folder.exists()
    assert place.listed()["tiny"]["state"] == "not set up"
    assert place.run("remove", "all") == (0, "", "tiny is not set up\n")


def test_one_that_cannot_be_made_stops_no_other(place):
    """The last of pip's words, and nothing half done left behind."""
    place.quick()
    bad, good = place.add("bad", "impossible==1\n"), place.add("good")
    status, out, err = place.run("create", "all")
    assert status == 1
    assert out == f"good          {good.interpreter}\n"
    lines = err.splitlines()
    assert lines[:3] == [
        f"setting up bad with Python {_HERE}",
        f"setting up good with Python {_HERE}",
        "ERROR cannot set up bad",
    ]
    assert lines[3].startswith("  why: `python -m pip ")
    assert lines[3].endswith(f"--requirement {bad.requirements}` exited with status 7")
    assert lines[4:6] == ["    - Collecting impossible", "    - ERROR: No matching distribution found for impossible"]
    assert not bad.folder.exists()
    assert place.listed()["bad"]["state"] == "not set up"


def test_a_missing_python_is_named(place):
    """And how to get it."""
    place.add("old", python="3.0")
    assert place.run("create", "old") == (
        1,
        "",
        "ERROR cannot set up old\n"
        "  why: it needs Python 3.0, which is not installed\n"
        "  fix: install it, for example with `pyenv install 3.0`, or put python3.0 on the PATH\n",
    )
    assert place.listed()["old"]["state"] == "Python missing"
    status, out, err = place.run("list")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2].split("  ")[-1].strip() == "needs Python 3.0"
    assert not place.cache.exists()


def test_an_unknown_consumer_is_guessed_at(place):
    """Before anything is made."""
    place.quick()
    place.add("tf1.15"), place.add("tf2.4")
    for action in ("create", "remove"):
        assert place.run(action, "tf2.4", "tf1.51") == (
            1,
            "",
            "ERROR no consumer tf1.51 (did you mean 'tf1.15'?)\n"
            "  why: known consumers: tf1.15, tf2.4\n"
            "  fix: use one of these, or all; `hubexport consumers list` shows more\n",
        )
    assert not place.cache.exists()


def test_what_was_broken_off_is_made_anew(place):
    """So is one whose Python has gone."""
    place.quick()
    made = place.add("tiny")
    made.folder.mkdir(parents=True)
    (made.folder / "half").touch()
    assert not made.is_ready
    assert place.run("create", "tiny")[0] == 0
    assert made.is_ready
    assert not (made.folder / "half").exists()
    made.interpreter.unlink()
    assert place.listed()["tiny"]["state"] == "not set up"
    assert place.run("create", "tiny")[0] == 0
    assert made.is_ready


def test_an_interrupted_making_leaves_nothing(place, monkeypatch):
    """Whatever interrupts it."""
    place.quick()
    made = place.add("tiny")

    def interrupt(*_, **__):
        (made.folder / "bin").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(environments.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        place.run("create", "tiny")
    assert not made.folder.exists()


def test_of_two_processes_one_makes_an_environment(place):
    """The other waits and makes no second one; nobody removes it meanwhile."""
    place.quick()
    made = place.add("tiny")
    made.folder.mkdir(parents=True)
    with Path(f"{made.folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.run("remove", "tiny") == (
            1,
            "",
            "ERROR cannot remove tiny\n"
            f"  why: another process is using it: it holds the lock {made.folder}.lock\n"
            "  fix: wait until no process uses it\n",
        )

        def finish():
            (made.folder / "bin").mkdir()
            made.interpreter.touch()
            (made.folder / "ready").touch()
            fcntl.flock(lock, fcntl.LOCK_UN)

        threading.Timer(0.3, finish).start()
        status, out, err = place.run("create", "tiny")
    assert (status, out) == (0, f"tiny          {made.interpreter}\n")
    waiting = f"waiting for another process to set up {made.folder.name}: it holds the lock {made.folder}.lock\n"
    assert err == waiting


def test_remove_takes_old_pins_and_no_neighbour(place):
    """Another name may begin with the same letters."""
    place.quick()
    short, long = place.add("tf1.7"), place.add("tf1.7-hub0.2")
    assert place.run("create", "all")[0] == 0
    old = short.folder.with_name("tf1.7-0123456789ab")
    old.mkdir()
    assert place.run("remove", "tf1.7") == (0, "".join(f"{path}\n" for path in sorted([old, short.folder])), "")
    assert not old.exists()
    assert not short.folder.exists()
    assert long.is_ready


def test_a_cache_that_cannot_be_written_is_a_clean_error(place):
    """Here there is a file in its place."""
    place.quick()
    place.add("tiny")
    place.cache.write_text("x")
    status, out, err = place.run("create", "tiny")
    assert (status, out) == (1, "")
    assert err.splitlines()[0] == "ERROR cannot set up tiny"
    assert err.splitlines()[2] == "  fix: free space there, or set HUBEXPORT_CACHE_DIR to another cache folder"


def test_a_relative_cache_has_absolute_interpreters(place, tmp_path, monkeypatch):
    """Wherever a program is started later."""
    place.quick()
    made = place.add("tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", "there")
    assert place.run("create", "tiny")[1] == f"tiny          {made.interpreter}\n"
    assert made.interpreter.is_relative_to(tmp_path / "there")


def test_list_tells_what_each_loads(place):
    """One line each, and everything in JSON."""
    place.quick()
    place.add("old", tensorflow="1.7.0", tensorflow_hub="0.1.0")
    place.add("new", tensorflow="2.21.0", tensorflow_hub="0.16.1")
    status, out, err = place.run("list")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    assert ["old", _HERE, "1.7.0", "0.1.0", "1, 2 by hub.Module", "-", "not set up"] in rows
    assert ["new", _HERE, "2.21.0", "0.16.1", "1, 2, 3 by hub.load", "4, 5", "not set up"] in rows
    assert place.listed()["old"] == {
        "name": "old",
        "python": _HERE,
        "tensorflow": "1.7.0",
        "tensorflow_hub": "0.1.0",
        "has_hub_module": True,
        "loads": {"TF1 Hub module": [1, 2], "TF2 SavedModel": []},
        "state": "not set up",
        "interpreter": None,
    }


@pytest.mark.parametrize("arguments", [["list"], ["create", "x"]], ids=" ".join)
def test_answers_without_importing_tensorflow(arguments):
    """Nor NumPy."""
    code = (
        "import argparse, sys\n"
        "from hubexport.cli import consumers\n"
        "from hubexport.errors import ConsumerError\n"
        "parser = argparse.ArgumentParser()\n"
        "consumers.add_arguments(parser)\n"
        f"args = parser.parse_args({arguments})\n"
        "try:\n    consumers.run(args)\n"
        "except ConsumerError:\n    pass\n"
        "print('imported:', {'tensorflow', 'numpy'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "imported: set()\n"


def test_pins_are_what_they_were():
    """Other bytes would have everybody download gigabytes once more: let there be a reason."""
    assert [consumer.environment.folder.name for consumer in registry.CONSUMERS] == [
        "tf1.7-85b35346f516",
        "tf1.7-hub0.2-0b5ad9624f0a",
        "tf1.13-dc5d7cd61d6b",
        "tf1.15-8cf2b6829379",
        "tf2.4-cdeb1ccaf4f1",
        "tf2.10-8d9313485ca3",
        "tf2.15-1f748d84a81b",
        "tf2.21-c147e7f41875",
    ]


def test_consumers_know_their_versions():
    """As their pins say; each once, in the order asked for."""
    assert [one.tensorflow for one in select_consumers(["tf2.4", "tf1.15", "tf2.4"])] == ["2.4.4", "1.15.5"]
    assert select_consumers(["tf2.4", "all"])[0].name == "tf2.4"
    assert len(select_consumers(["tf2.4", "all"])) == len(registry.CONSUMERS) == 8


@pytest.mark.parametrize(
    ("name", "format_", "version", "reason"),
    [
        ("tf1.7", "TF1 Hub module", 2, None),
        (
            "tf1.7",
            "TF1 Hub module",
            3,
            "tensorflow-hub 0.1.0 rejects modules with attachments, such as those of version 3",
        ),
        ("tf1.7-hub0.2", "TF1 Hub module", 3, None),
        ("tf1.15", "TF1 Hub module", 3, None),
        (
            "tf1.15",
            "TF2 SavedModel",
            5,
            "TensorFlow 1.15.5 is older than 2.4, the oldest supported for TF2 SavedModels",
        ),
        ("tf2.4", "TF2 SavedModel", 4, None),
        ("tf2.21", "TF1 Hub module", 1, None),
        ("tf2.21", "TF1 SavedModel", 1, "a TensorFlow 1 SavedModel is not a TensorFlow Hub module"),
    ],
)
def test_what_is_not_applicable_has_a_reason(name, format_, version, reason):
    """By format and version of the module, and what the consumer has."""
    [consumer] = select_consumers([name])
    assert why_not_applicable(consumer, format_, version) == reason


def test_a_consumer_that_is_not_set_up_says_how(place):
    """When its interpreter is asked for."""
    place.add("tiny")
    [consumer] = select_consumers(["tiny"])
    with pytest.raises(ConsumerError) as caught:
        consumer.interpreter()
    assert caught.value.what == "tiny is not set up"
    assert caught.value.fix == "run `hubexport consumers create tiny`"


def test_installed_is_the_interpreter_that_runs(monkeypatch):
    """Which may have no tensorflow_hub."""
    assert installed().interpreter() == Path(sys.executable)
    assert installed().python == _HERE
    for distribution, version in (
        ("tensorflow", installed().tensorflow),
        ("tensorflow_hub", installed().tensorflow_hub),
    ):
        [folder] = Path(registry.importlib.metadata.distribution(distribution).locate_file("")).glob(
            f"{distribution}-*.dist-info"
        )
        assert folder.name == f"{distribution}-{version}.dist-info"

    def nothing(name):
        raise registry.importlib.metadata.PackageNotFoundError(name)

    installed.cache_clear()
    monkeypatch.setattr(registry.importlib.metadata, "version", nothing)
    with pytest.raises(ConsumerError, match="cannot load modules"):
        installed()
