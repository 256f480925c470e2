"""Writes trained values for other frameworks: one function for each target of `hubexport convert`."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from hubexport.arrays import StreamedValue, Value, as_streamed
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.options import DeploymentOptions
from hubexport.deployments.registry import DEPLOYMENT_FORMATS, DEPLOYMENTS, DeploymentFormat
from hubexport.formats.keras_model import write_keras_model
from hubexport.formats.tf2_saved_model import write_tf2_checkpoint
from hubexport.layouts.conversion_targets import Target
from hubexport.layouts.huggingface import batch_counters, huggingface_config, huggingface_layout, preprocessor_config
from hubexport.layouts.keras import keras_h5_layout, keras_weights_h5_layout
from hubexport.layouts.rules import VariableLayout
from hubexport.networks.family import Parameters
from hubexport.networks.network import Network
from hubexport.progress import Progress

# The files of a model's directory. Every model has the first one.
_HUGGING_FACE_FILES = ("model.safetensors", "config.json", "preprocessor_config.json")
# Keras tells a file's layout by the end of its name.
KERAS_SUFFIX = ".h5"
KERAS_WEIGHTS_SUFFIX = ".weights.h5"
KERAS_MODEL_SUFFIX = ".keras"


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network and its trained values.

    Attributes:
        name: what a format that names its models calls it.
        network: the network, with its classifier if the values include that.
        family_parameters: the parameters of the network's family, like a depth multiplier.
        values: float32, for each of the network's variables, by TF-Slim's name.
        labels: the names of the classes, in order; None if they are unknown.
        endpoints: keys of the endpoints that a whole model gives, too.
        options: how to write a deployment; None for its defaults.
        progress: receives what a writer reports.
    """

    name: str
    network: Network
    family_parameters: Parameters
    values: Mapping[str, Value]
    labels: Sequence[str] | None
    endpoints: Sequence[str] = ()
    options: DeploymentOptions | None = None
    progress: Progress = Progress()


def huggingface_files(directory: Path) -> tuple[str, ...] | None:
    """Returns the names of the files in a Hugging Face model's directory; None for any other directory."""
    return _HUGGING_FACE_FILES if (directory / _HUGGING_FACE_FILES[0]).is_file() else None


def _write_keras(path: Path, trained: TrainedNetwork) -> None:
    from hubexport.checkpoints.hdf5 import write_keras_h5, write_keras_weights_h5  # h5py is slow to import.

    if path.suffix == KERAS_MODEL_SUFFIX:
        write_keras_model(
            path,
            trained.name,
            trained.network,
            trained.values,
            class_names=trained.labels,
            endpoints=trained.endpoints,
        )
    elif path.name.endswith(KERAS_WEIGHTS_SUFFIX):
        write_keras_weights_h5(path, _laid_out(keras_weights_h5_layout(trained.network), trained))
    else:
        write_keras_h5(path, _laid_out(keras_h5_layout(trained.network), trained))


def _write_safetensors(path: Path, trained: TrainedNetwork) -> None:
    from hubexport.checkpoints.safetensors_file import write_safetensors

    write_safetensors(path, trained.values, {})


def _write_huggingface(directory: Path, trained: TrainedNetwork) -> None:
    from hubexport.checkpoints.safetensors_file import write_safetensors

    directory.mkdir()
    counters = {name: as_streamed(count) for name, count in batch_counters(trained.network).items()}
    stored = {**_laid_out(huggingface_layout(trained.network), trained), **counters}
    # "pt" is for PyTorch's layout. Older releases of transformers refuse a file that does not name its layout.
    weights, settings, preprocessing = (directory / name for name in _HUGGING_FACE_FILES)
    write_safetensors(weights, stored, {"format": "pt"})
    _write_json(settings, huggingface_config(trained.network, trained.family_parameters, trained.labels))
    _write_json(preprocessing, preprocessor_config(trained.network))


def _write_deployment(path: Path, trained: TrainedNetwork, to: DeploymentFormat) -> None:
    options = trained.options or DEPLOYMENTS[to].options()
    model = inference_model(
        trained.name,
        trained.network,
        trained.values,
        options,
        class_names=trained.labels,
        endpoints=trained.endpoints,
    )
    DEPLOYMENTS[to].write(path, model, options, trained.progress)


# Each writes to a path that does not exist: a checkpoint's prefix, a file or a directory, depending on the target.
WRITERS: dict[Target, Callable[[Path, TrainedNetwork], None]] = {
    "slim": lambda prefix, trained: write_bundle(prefix, trained.values),
    "keras": _write_keras,
    "safetensors": _write_safetensors,
    "huggingface": _write_huggingface,
    "tf2": lambda prefix, trained: write_tf2_checkpoint(prefix, trained.network, trained.values),
    **{to: functools.partial(_write_deployment, to=to) for to in DEPLOYMENT_FORMATS},
}


def _laid_out(layout: Sequence[VariableLayout], trained: TrainedNetwork) -> dict[str, StreamedValue]:
    """Returns the values under the names and in the layout of another framework."""
    return {entry.name: entry.streamed_from_slim(trained.values[entry.variable.name]) for entry in layout}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
