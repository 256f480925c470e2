"""Programs load modules by URL from `hubexport serve`, with the TensorFlows and tensorflow_hubs of their time."""

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

# An environment may have to be made first.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800)]

_VECTOR = "google/imagenet/small/feature_vector"
# Which modules a consumer can load in which ways: hub.Module until tensorflow_hub 0.15, TF2 SavedModels from 2.4 on.
# Without a version, the newest one comes, and `format=hub` lets it be one for TensorFlow 1.
_TF1_WAYS = [("Module", f"{_VECTOR}/2", 2), ("Module", f"{_VECTOR}?format=hub", 2)]
_TF2_WAYS = [("load", f"{_VECTOR}/5", 5), ("load", f"{_VECTOR}/2", 2), ("KerasLayer", _VECTOR, 5)]
_WAYS = {
    "tf1.7": _TF1_WAYS,
    "tf1.7-hub0.2": _TF1_WAYS,
    "tf1.13": _TF1_WAYS,
    "tf1.15": _TF1_WAYS,
    "tf2.4": [*_TF1_WAYS, *_TF2_WAYS],
    "tf2.10": [*_TF1_WAYS, *_TF2_WAYS],
    "tf2.15": [*_TF1_WAYS, *_TF2_WAYS],
    "tf2.21": _TF2_WAYS,
}
# Of float32 networks to the float64 one; see DESIGN.md for what TensorFlows differ by.
_TOLERANCE = 5e-5


@pytest.fixture(scope="module", name="server")
def _server(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "log"
    with serving(small_release, "--bucket", "gs://models.example/hub", log_path=log) as server:
        yield server


def _images() -> np.ndarray:
    return np.random.default_rng(7).random((2, 96, 96, 3), np.float32)


@pytest.fixture(scope="module", name="expected")
def _expected(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What NumPy computes, in float64, with the values in the archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    unpack_archive(small_release / f"{_VECTOR}/2.tar.gz", folder)
    subject = identify(folder, "2.tar.gz")
    values = network_values(subject, read_stored_values(subject))
    *_, last = Forward(subject.network, values, _images()).run().values()
    return last


def test_all_consumers_are_asked():
    """A new one has to say what it can load."""
    assert [consumer.name for consumer in CONSUMERS] == list(_WAYS)


@pytest.mark.parametrize("consumer", cases(CONSUMERS))
def test_modules_load_by_url(consumer, server, expected, tmp_path):
    """From an empty cache: all that is known of the module comes from the server."""
    python = python_or_skip(consumer.environment)
    np.savez(tmp_path / "inputs.npz", images=_images())
    tasks = [
        {
            "url": f"{server.url}/{handle}",
            "way": way,
            "cache": str(tmp_path / f"cache{number}"),
            "inputs": str(tmp_path / "inputs.npz"),
            "outputs": str(tmp_path / f"{number}.npy"),
        }
        for number, (way, handle, _) in enumerate(_WAYS[consumer.name])
    ]
    seen = run_consumer(python, "load_by_url.py", tasks, tmp_path)
    assert seen["tensorflow_hub"] == consumer.tensorflow_hub
    for number, task in enumerate(tasks):
        np.testing.assert_allclose(np.load(tmp_path / f"{number}.npy"), expected, atol=_TOLERANCE, err_msg=task["url"])
    loaded = {line["path"] for line in server.log() if line.get("what") == "archive" and line["status"] == 200}
    assert loaded >= {f"/{_VECTOR}/{version}" for _, _, version in _WAYS[consumer.name]}


def test_the_library_is_sent_to_the_bucket(server, tmp_path):
    """Where tensorflow_hub is told to read modules without unpacking them; TensorFlow would read from there."""
    [newest] = [consumer for consumer in CONSUMERS if consumer.name == "tf2.21"]
    task = {
        "url": f"{server.url}/{_VECTOR}/5",
        "way": "resolve",
        "cache": str(tmp_path / "cache"),
        "format": "UNCOMPRESSED",
    }
    # The library looks whether there is such a bucket, and fails without it: its message says what it was told.
    with pytest.raises(Exception, match=f"gs://models.example/hub/{_VECTOR}/5"):
        run_consumer(python_or_skip(newest.environment), "load_by_url.py", [task], tmp_path)


def test_a_token_lets_programs_in(small_release, tmp_path):
    """Which a program adds to the requests of tensorflow_hub."""
    (tmp_path / "tokens").write_text("correct horse battery staple".replace(" ", "-") + "\n")
    task = {
        "url": "",
        "way": "resolve",
        "cache": str(tmp_path / "cache"),
        "token": "correct-horse-battery-staple",
    }
    [consumer] = [consumer for consumer in CONSUMERS if consumer.name == "tf2.15"]
    python = python_or_skip(consumer.environment)
    with serving(small_release, "--token_file", str(tmp_path / "tokens"), log_path=tmp_path / "log") as server:
        task["url"] = f"{server.url}/{_VECTOR}/5"
        [seen] = run_consumer(python, "load_by_url.py", [task], tmp_path)["modules"]
        assert (Path(seen["path"]) / "saved_model.pb").is_file()
        with pytest.raises(Exception, match="401"):
            run_consumer(python, "load_by_url.py", [{**task, "token": None, "cache": str(tmp_path / "2")}], tmp_path)
