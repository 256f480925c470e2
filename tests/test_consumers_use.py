"""Programs in other interpreters, how they fail and end, and the installed TensorFlow as a consumer of modules."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.consumers.child import running
from hubexport.consumers.judge import ModuleContract, judge_application
from hubexport.consumers.registry import PinnedConsumer
from hubexport.consumers.use_module import start_use
from hubexport.errors import ConsumerError, TemporaryFileError
from tests.command import environment
from tests.data import needs_data, reference_outputs
from tests.graphs import checkpoint_values

_VARIANT = "mobilenet_v2_050_96"


def _program(folder, code):
    (folder / "program.py").write_text(code)
    return [sys.executable, folder / "program.py"]


def test_a_program_gets_its_task_and_answers(tmp_path):
    """It runs as a script, in its own folder."""
    code = (
        "import json, os, sys, tempfile\n"
        "task = json.load(open(sys.argv[1]))\n"
        "seen = [task, __name__, os.getcwd(), tempfile.gettempdir(), os.environ.get('PYTHONPATH')]\n"
        "json.dump({'seen': seen}, open(sys.argv[2], 'w'))\n"
    )
    with running("x", _program(tmp_path, code), {"a": 1}, tmp_path, timeout_s=60) as answer:
        assert answer() == {"seen": [{"a": 1}, "__main__", str(tmp_path), str(tmp_path), None]}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ValueError('no \\x1b such')", r"it exited with status 1: ValueError: no \x1b such"),
        ("import os; os.kill(os.getpid(), 11)", "it was killed by signal 11"),
    ],
    ids=["exception", "signal"],
)
def test_a_program_that_fails_is_an_error(tmp_path, code, why):
    """With the end of its output."""
    code = f"import sys\nfor n in range(30): print('line', n, file=sys.stderr, flush=True)\n{code}"
    with running("x cannot use y", _program(tmp_path, code), {}, tmp_path, timeout_s=60) as answer:
        with pytest.raises(ConsumerError) as caught:
            answer()
    assert caught.value.what == "x cannot use y"
    assert caught.value.why.startswith(why)
    assert len(caught.value.details) == 15
    assert "line 0" not in caught.value.details
    if "ValueError" in why:
        assert caught.value.details[-1] == r"ValueError: no \x1b such"


_ENDLESS = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)\n"
# Like some calls of TensorFlow, this sleeps without letting another Python thread run.
_BLOCKED = "import ctypes\n" + _ENDLESS.replace("time.sleep", "ctypes.PyDLL(None).sleep")


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _pid(folder):
    _wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    return int((folder / "pid").read_text())


def test_a_program_that_takes_too_long_is_killed(tmp_path):
    """And reported as an error."""
    with running("x cannot use y", _program(tmp_path, _ENDLESS), {}, tmp_path, timeout_s=0.1) as answer:
        pid = _pid(tmp_path)
        with pytest.raises(ConsumerError) as caught:
            answer()
    assert caught.value.why == "it did not finish in time"
    assert not _is_running(pid)


def test_a_program_ends_with_its_context(tmp_path):
    """Even if an interruption ends the context."""
    with pytest.raises(KeyboardInterrupt):
        with running("x", _program(tmp_path, _BLOCKED), {}, tmp_path, timeout_s=60):
            pid = _pid(tmp_path)
            assert _is_running(pid)
            raise KeyboardInterrupt
    assert not _is_running(pid)


def test_a_program_does_not_outlive_a_killed_process(tmp_path):
    """Although a killed process cannot clean up."""
    code = (
        "import pathlib, sys\n"
        "from hubexport.consumers.child import running\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with running('x', [sys.executable, folder / 'program.py'], {}, folder, timeout_s=600) as answer:\n"
        "    answer()\n"
    )
    _program(tmp_path, _ENDLESS)
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], env=environment()) as parent:
        pid = _pid(tmp_path)
        os.kill(parent.pid, signal.SIGKILL)
    _wait_for(lambda: not _is_running(pid))


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """One module of each format, with the values whose reference outputs are known."""
    specs = [ModuleSpec.parse(text) for text in ("classification/3", "feature_vector/5")]
    folder = tmp_path_factory.mktemp("modules")
    paths = build_modules(load_variant(_VARIANT), specs, checkpoint="synthetic:1", output_dir=folder)
    return {str(spec): path for spec, path in zip(specs, paths, strict=True)}


def _contract(modules, name):
    spec, variant, known = ModuleSpec.parse(name), load_variant(_VARIANT), reference_outputs(_VARIANT)
    expected = {"default": known[f"image_{spec.kind}"]}
    network = variant.network_for(spec.kind, spec.version)
    values = checkpoint_values(modules["classification/3"])
    return ModuleContract(spec.version, network, known["images"], values, expected, 5e-5)


@needs_data
@pytest.mark.parametrize(
    ("name", "apis"),
    [
        ("classification/3", ["hub.Module"]),
        pytest.param("feature_vector/5", ["hub.KerasLayer", "hub.load"], marks=pytest.mark.slow),
    ],
)
def test_the_installed_tensorflow_hub_applies_modules(modules, name, apis):
    """It predicts what an independent PyTorch implementation computes."""
    import tensorflow_hub

    from hubexport.consumers.hub_apis import apply_tf1, apply_tf2, load_tf2

    contract = _contract(modules, name)
    if name == "classification/3":
        applications = apply_tf1(modules[name], [contract.images])
    else:
        applications = apply_tf2(load_tf2(modules[name]), [contract.images])
    if tensorflow_hub.__version__ < "0.16":
        assert list(applications) == apis
    for api, application in applications.items():
        judgement = judge_application(api, application, contract)
        assert 0 < judgement.largest_error <= 5e-5
        assert judgement.problems == ()


class _Ready(PinnedConsumer):
    """The running interpreter, as if it were a consumer's environment."""

    def interpreter(self):
        return Path(sys.executable)


@needs_data
def test_an_unusable_temporary_folder_is_a_clean_error(modules, tmp_path, monkeypatch):
    """Here, a file is in its place."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    contract = _contract(modules, "feature_vector/5")
    with pytest.raises(TemporaryFileError, match="cannot use") as caught:
        with start_use(_Ready("mine", "3.11", "2.15", "0.15", None), modules["feature_vector/5"], contract):
            pass
    assert "TMPDIR" in caught.value.fix
