"""Consumers load modules by URL from `hubexport serve`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hubexport.consumers.registry import CONSUMERS
from hubexport.modules.identity import identify
from hubexport.modules.values import network_values, read_stored_values
from hubexport.networks.numpy_forward import Forward
from hubexport.system.tars import unpack_archive
from tests.environments import cases, python_or_skip, run_consumer
from tests.serving import Server, serving

# The timeout leaves time to make an environment.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800)]

_VECTOR = "google/imagenet/small/feature_vector"
# The APIs and modules of each consumer, and the module's version: hub.Module until tensorflow_hub 0.15, TF2 SavedModels
# from TensorFlow 2.4 on. A handle without a version gets the newest one, limited by `format=hub` to TensorFlow 1.
_TF1_LOADS = [("Module", f"{_VECTOR}/2", 2), ("Module", f"{_VECTOR}?format=hub", 2)]
_TF2_LOADS = [("load", f"{_VECTOR}/5", 5), ("load", f"{_VECTOR}/2", 2), ("KerasLayer", _VECTOR, 5)]
_LOADS = {
    "tf1.7": _TF1_LOADS,
    "tf1.7-hub0.2": _TF1_LOADS,
    "tf1.13": _TF1_LOADS,
    "tf1.15": _TF1_LOADS,
    "tf2.4": [*_TF1_LOADS, *_TF2_LOADS],
    "tf2.10": [*_TF1_LOADS, *_TF2_LOADS],
    "tf2.15": [*_TF1_LOADS, *_TF2_LOADS],
    "tf2.21": _TF2_LOADS,
}
# Between a float32 network and the float64 one.
_TOLERANCE = 5e-5


@pytest.fixture(scope="module", name="server")
def _server(small_release: Path) -> Iterator[Server]:
    with serving(small_release, "--bucket", "gs://models.example/hub") as server:
        yield server


def _images() -> np.ndarray:
    return np.random.default_rng(7).random((2, 96, 96, 3), np.float32)


@pytest.fixture(scope="module", name="expected")
def _expected(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The output that NumPy computes in float64 from the values in the archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    unpack_archive(small_release / f"{_VECTOR}/2.tar.gz", folder)
    subject = identify(folder, "2.tar.gz")
    values = network_values(subject, read_stored_values(subject))
    *_, last = Forward(subject.network, values, _images()).run().values()
    return last


def test_no_consumer_is_left_out():
    """A new one needs an entry, too."""
    assert [consumer.name for consumer in CONSUMERS] == list(_LOADS)


@pytest.mark.parametrize("consumer", cases(CONSUMERS))
def test_modules_load_by_url(consumer, server, expected, tmp_path):
    """With an empty cache, so that everything comes from the server."""
    python = python_or_skip(consumer.environment)
    np.savez(tmp_path / "inputs.npz", images=_images())
    tasks = [
        {
            "url": f"{server.url}/{handle}",
            "api": api,
            "cache": str(tmp_path / f"cache{number}"),
            "inputs": str(tmp_path / "inputs.npz"),
            "outputs": str(tmp_path / f"{number}.npy"),
        }
        for number, (api, handle, _) in enumerate(_LOADS[consumer.name])
    ]
    recorded = run_consumer(python, "load_by_url.py", tasks, tmp_path)
    assert recorded["tensorflow_hub"] == consumer.tensorflow_hub
    for number, task in enumerate(tasks):
        np.testing.assert_allclose(np.load(tmp_path / f"{number}.npy"), expected, atol=_TOLERANCE, err_msg=task["url"])
    loaded = {line["path"] for line in server.log() if line.get("what") == "archive" and line["status"] == 200}
    assert loaded >= {f"/{_VECTOR}/{version}" for _, _, version in _LOADS[consumer.name]}


def test_the_library_is_sent_to_the_bucket(server, tmp_path):
    """If a program asks tensorflow_hub to read modules without downloading them."""
    [newest] = [consumer for consumer in CONSUMERS if consumer.name == "tf2.21"]
    task = {
        "url": f"{server.url}/{_VECTOR}/5",
        "api": "resolve",
        "cache": str(tmp_path / "cache"),
        "format": "UNCOMPRESSED",
    }
    # The library fails because there is no such bucket; its message quotes the address.
    with pytest.raises(Exception, match=f"gs://models.example/hub/{_VECTOR}/5"):
        run_consumer(python_or_skip(newest.environment), "load_by_url.py", [task], tmp_path)


def test_programs_can_send_a_token(small_release, tmp_path):
    """By adding it to the requests of tensorflow_hub."""
    (tmp_path / "tokens").write_text("correct horse battery staple".replace(" ", "-") + "\n")
    task = {
        "url": "",
        "api": "resolve",
        "cache": str(tmp_path / "cache"),
        "token": "correct-horse-battery-staple",
    }
    [consumer] = [consumer for consumer in CONSUMERS if consumer.name == "tf2.15"]
    python = python_or_skip(consumer.environment)
    with serving(small_release, "--token-file", str(tmp_path / "tokens")) as server:
        task["url"] = f"{server.url}/{_VECTOR}/5"
        [facts] = run_consumer(python, "load_by_url.py", [task], tmp_path)["modules"]
        assert (Path(facts["path"]) / "saved_model.pb").is_file()
        with pytest.raises(Exception, match="401"):
            run_consumer(python, "load_by_url.py", [{**task, "token": None, "cache": str(tmp_path / "2")}], tmp_path)
