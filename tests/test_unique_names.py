"""No value takes the name of another, in no container and after no renaming."""

import json
from pathlib import Path
import struct

import numpy as np
import pytest

from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.safetensors_file import SafetensorsReader
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.errors import CheckpointError
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.progress import Progress
from hubexport.protos import TrackableObjectGraph
from hubexport.system.damage import DamageError


def _object_based(prefix, full_names):
    """Writes a checkpoint of one number per key, whose graph gives the keys these names."""
    nodes = [
        {"attributes": [{"name": "VARIABLE_VALUE", "full_name": name, "checkpoint_key": key}]}
        for key, name in full_names.items()
    ]
    values = {key: np.float32(number) for number, key in enumerate(full_names)}
    graph = TrackableObjectGraph(nodes=nodes).SerializeToString()
    write_bundle(prefix, {**values, OBJECT_GRAPH_KEY: graph})
    return BundleReader(prefix)


def test_variables_of_one_name_keep_their_keys(tmp_path):
    """All of them do: nothing tells which one is meant."""
    found = ValuesByVariable(_object_based(tmp_path / "c", {"x": "v", "y": "v", "z": "w"}))
    assert {name: found.read(name).item() for name in found.shapes if name != OBJECT_GRAPH_KEY} == {
        "x": 0,
        "y": 1,
        "w": 2,
    }


def test_a_variable_named_like_the_key_of_another(tmp_path):
    """It is an error rather than a lost value."""
    _object_based(tmp_path / "c", {"x": "y", "y": "v", "z": "v"})
    with pytest.raises(CheckpointError) as caught, _opened(tmp_path / "c"):
        pass
    assert "the name 'y' is there twice" in caught.value.why


def _opened(path: Path):
    return open_checkpoint(resolve_source(path, None, Progress()), Progress())


@pytest.mark.parametrize("other", ['"I32","shape":[1],"data_offsets":[0,4]', '"F32","shape":[0],"data_offsets":[0,0]'])
def test_safetensors_with_one_name_twice(tmp_path, other):
    """The package keeps the last value, so the header is read once more."""
    header = f'{{"v":{{"dtype":{other}}},"v":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}'
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    assert json.loads(header)["v"]["shape"] == [1]
    with pytest.raises(DamageError, match="the name 'v' is there twice"):
        SafetensorsReader(tmp_path / "x")
