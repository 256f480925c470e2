"""`hubexport consumers` lists, sets up and removes consumers: here tiny ones, in a cache folder of their own."""

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
# A Python whose `-m venv` and pip take no time; pip fails for the requirement `impossible`.
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


class _Consumers:
    """Replaces the real consumers and their cache folder."""

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

    def use_quick_python(self):
        """Makes setting up an environment take no time."""
        self._monkeypatch.setattr(environments, "find_python", lambda _: str(self._quick_python))

    def add(self, name, requirements="", python=_HERE, tensorflow="2.15.1", tensorflow_hub="0.15.0"):
        """Adds a consumer, and returns its environment."""
        file = self._folder / f"{name}.txt"
        file.write_text(requirements)
        added = Environment(name, python, file)
        self._consumers.append(PinnedConsumer(name, python, tensorflow, tensorflow_hub, added))
        self._monkeypatch.setattr(registry, "CONSUMERS", tuple(self._consumers))
        return added

    def run(self, *arguments):
        """Returns the exit status, stdout and stderr, with errors as the command line prints them."""
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
        """Returns what `list --format json` prints, by name."""
        status, out, _ = self.run("list", "--format", "json")
        assert status == 0
        return {consumer["name"]: consumer for consumer in json.loads(out)}


@pytest.fixture(name="consumers")
def _consumers(tmp_path, monkeypatch, capsys):
    return _Consumers(tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_create_makes_an_environment_once_and_remove_deletes_it(consumers):
    """A real environment, without packages."""
    tiny = consumers.add("tiny")
    assert consumers.listed()["tiny"]["state"] == "not set up"
    assert consumers.run("create", "tiny", "tiny") == (
        0,
        f"tiny          {tiny.interpreter}\n",
        f"setting up tiny with Python {_HERE}\n",
    )
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    done = subprocess.run([tiny.interpreter, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [_HERE, str(tiny.folder)]
    assert consumers.run("create", "all") == (0, f"tiny          {tiny.interpreter}\n", "")
    listed = consumers.listed()["tiny"]
    assert (listed["state"], listed["interpreter"]) == ("set up", str(tiny.interpreter))
    assert consumers.run("remove", "tiny") == (0, f"{tiny.folder}\n", "")
    assert not tiny.folder.exists()
    assert consumers.listed()["tiny"]["state"] == "not set up"
    assert consumers.run("remove", "all") == (0, "", "tiny is not set up\n")


def test_a_consumer_that_cannot_be_set_up_stops_no_other(consumers):
    """The error quotes pip, and no incomplete environment is left behind."""
    consumers.use_quick_python()
    bad, good = consumers.add("bad", "impossible==1\n"), consumers.add("good")
    status, out, err = consumers.run("create", "all")
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
    assert consumers.listed()["bad"]["state"] == "not set up"


def test_a_missing_python_is_an_error(consumers):
    """Which says how to install it."""
    consumers.add("old", python="3.0")
    assert consumers.run("create", "old") == (
        1,
        "",
        "ERROR cannot set up old\n"
        "  why: it needs Python 3.0, which is not installed\n"
        "  fix: install it, for example with `pyenv install 3.0`, or put python3.0 on the PATH\n",
    )
    assert consumers.listed()["old"]["state"] == "Python missing"
    status, out, err = consumers.run("list")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2].split("  ")[-1].strip() == "needs Python 3.0"
    assert not consumers.cache.exists()


def test_a_misspelt_consumer_is_guessed(consumers):
    """Before anything is set up or removed."""
    consumers.use_quick_python()
    consumers.add("tf1.15"), consumers.add("tf2.4")
    for action in ("create", "remove"):
        assert consumers.run(action, "tf2.4", "tf1.51") == (
            1,
            "",
            "ERROR no consumer tf1.51 (did you mean 'tf1.15'?)\n"
            "  why: known consumers: tf1.15, tf2.4\n"
            "  fix: use one of these, or all; `hubexport consumers list` shows more\n",
        )
    assert not consumers.cache.exists()


def test_an_incomplete_environment_is_made_anew(consumers):
    """So is one whose Python no longer exists."""
    consumers.use_quick_python()
    tiny = consumers.add("tiny")
    tiny.folder.mkdir(parents=True)
    (tiny.folder / "half").touch()
    assert not tiny.is_ready
    assert consumers.run("create", "tiny")[0] == 0
    assert tiny.is_ready
    assert not (tiny.folder / "half").exists()
    tiny.interpreter.unlink()
    assert consumers.listed()["tiny"]["state"] == "not set up"
    assert consumers.run("create", "tiny")[0] == 0
    assert tiny.is_ready


def test_an_interrupted_setup_leaves_nothing_behind(consumers, monkeypatch):
    """Here, Ctrl-C interrupts it."""
    consumers.use_quick_python()
    tiny = consumers.add("tiny")

    def interrupt(*_, **__):
        (tiny.folder / "bin").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(environments.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        consumers.run("create", "tiny")
    assert not tiny.folder.exists()


def test_of_two_processes_one_makes_an_environment(consumers):
    """The other waits for it and then uses it; meanwhile, nobody can remove it."""
    consumers.use_quick_python()
    tiny = consumers.add("tiny")
    tiny.folder.mkdir(parents=True)
    with Path(f"{tiny.folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert consumers.run("remove", "tiny") == (
            1,
            "",
            "ERROR cannot remove tiny\n"
            f"  why: another process is using it: it holds the lock {tiny.folder}.lock\n"
            "  fix: wait until no process uses it\n",
        )

        def finish():
            (tiny.folder / "bin").mkdir()
            tiny.interpreter.touch()
            (tiny.folder / "ready").touch()
            fcntl.flock(lock, fcntl.LOCK_UN)

        threading.Timer(0.3, finish).start()
        status, out, err = consumers.run("create", "tiny")
    assert (status, out) == (0, f"tiny          {tiny.interpreter}\n")
    waiting = f"waiting for another process to set up {tiny.folder.name}: it holds the lock {tiny.folder}.lock\n"
    assert err == waiting


def test_remove_includes_old_pins_and_nothing_else(consumers):
    """Even if the name of another consumer begins with this one's."""
    consumers.use_quick_python()
    short, long = consumers.add("tf1.7"), consumers.add("tf1.7-hub0.2")
    assert consumers.run("create", "all")[0] == 0
    old = short.folder.with_name("tf1.7-0123456789ab")
    old.mkdir()
    assert consumers.run("remove", "tf1.7") == (0, "".join(f"{path}\n" for path in sorted([old, short.folder])), "")
    assert not old.exists()
    assert not short.folder.exists()
    assert long.is_ready


def test_an_unusable_cache_folder_is_a_clean_error(consumers):
    """Here, a file is in its place."""
    consumers.use_quick_python()
    consumers.add("tiny")
    consumers.cache.write_text("x")
    status, out, err = consumers.run("create", "tiny")
    assert (status, out) == (1, "")
    assert err.splitlines()[0] == "ERROR cannot set up tiny"
    assert err.splitlines()[2] == "  fix: free space there, or set HUBEXPORT_CACHE_DIR to another cache folder"


def test_interpreters_in_a_relative_cache_folder_are_absolute(consumers, tmp_path, monkeypatch):
    """So that programs can start in other working directories."""
    consumers.use_quick_python()
    tiny = consumers.add("tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", "relative")
    assert consumers.run("create", "tiny")[1] == f"tiny          {tiny.interpreter}\n"
    assert tiny.interpreter.is_relative_to(tmp_path / "relative")


def test_list_says_what_each_consumer_loads(consumers):
    """A table row each, or JSON."""
    consumers.use_quick_python()
    consumers.add("old", tensorflow="1.7.0", tensorflow_hub="0.1.0")
    consumers.add("new", tensorflow="2.21.0", tensorflow_hub="0.16.1")
    status, out, err = consumers.run("list")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    assert ["old", _HERE, "1.7.0", "0.1.0", "1, 2 by hub.Module", "-", "not set up"] in rows
    assert ["new", _HERE, "2.21.0", "0.16.1", "1, 2, 3 by hub.load", "4, 5", "not set up"] in rows
    assert consumers.listed()["old"] == {
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
def test_tensorflow_and_numpy_are_not_imported(arguments):
    """So the command answers quickly, errors included."""
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


def test_pins_are_unchanged():
    """Other bytes would make everybody download gigabytes again: change them only for a reason."""
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


def test_consumers_are_selected_by_name():
    """Each once, in the requested order; their versions come from the pins."""
    assert [consumer.tensorflow for consumer in select_consumers(["tf2.4", "tf1.15", "tf2.4"])] == ["2.4.4", "1.15.5"]
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
def test_a_module_that_a_consumer_cannot_load_has_a_reason(name, format_, version, reason):
    """It depends on the module's format and version, and on the consumer's versions."""
    [consumer] = select_consumers([name])
    assert why_not_applicable(consumer, format_, version) == reason


def test_a_consumer_that_is_not_set_up_has_no_interpreter(consumers):
    """The error says how to set it up."""
    consumers.add("tiny")
    [consumer] = select_consumers(["tiny"])
    with pytest.raises(ConsumerError) as caught:
        consumer.interpreter()
    assert caught.value.what == "tiny is not set up"
    assert caught.value.fix == "run `hubexport consumers create tiny`"


def test_the_running_interpreter_is_a_consumer(monkeypatch):
    """Unless it lacks TensorFlow or tensorflow_hub."""
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
