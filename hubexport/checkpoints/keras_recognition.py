"""Recognizes the network in a Keras model by what its layers compute, which the model's description tells."""

from collections.abc import Iterator, Sequence
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubexport.checkpoints.recognition_check import listed
from hubexport.checkpoints.recognize import Recognition, candidates
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import CheckpointError, printable
from hubexport.layouts.keras_applications import application_with
from hubexport.layouts.keras_graph import Found, ModelGraph, Weight
from hubexport.layouts.keras_preprocessing import Preprocessing
from hubexport.layouts.registry import KERAS_WEIGHTS_H5
from hubexport.networks.family import Family, Parameters
from hubexport.networks.network import Network
from hubexport.networks.registry import FAMILIES
from hubexport.progress import Progress

# A model that does not begin like a network, and has fewer of its steps in whatever order, is not meant for it.
_CLOSE = 0.8
# Keras models take images in [0, 255], or as modules take them.
_BYTE_RANGE = 255.0
_HUB_LAYER = (
    "its network is a hub.KerasLayer, of which such files have values without the names of the variables; a SavedModel "
    "of the model has these"
)
# Keras writes 1 / 127.5 with the digits of float64, programs with fewer.
_EQUAL = 1e-5


@dataclasses.dataclass(frozen=True)
class ModelRecognition:
    """What a model's description tells.

    Attributes:
        recognition: the network; None if the model computes none that hubexport has.
        image_size: the height and width of the images that the model takes; None if they are open or differ.
        mismatch: why there is no network; None if there is one.
    """

    recognition: Recognition | None
    image_size: int | None
    mismatch: str | None


def recognize_model(
    description: str,
    stored: StoredValues,
    layout: str,
    named: Recognition | None,
    first: Sequence[tuple[Family, Parameters]],
    shown_as: Path,
    progress: Progress,
) -> ModelRecognition | None:
    """Finds the network in a model.

    Args:
        description: Keras' JSON.
        stored: the values beside it.
        layout: the name of the layout by which such files name values.
        named: the network that the names and shapes of the values tell; None if they tell none.
        first: families to try first, with parameters to try before the published ones.
        shown_as: how messages name the file.
        progress: receives a warning if something before the network is left out, and a note if nothing is there.
    Returns:
        The result. None if names and shapes have to tell: the network is a module in the model, or the description
        cannot be understood, of which a warning tells.
    Raises:
        CheckpointError: the model has several networks.
    """
    parameters = [*first, *([(named.family, named.parameters)] if named else [])]
    families = {family.name: family for family in (*(family for family, _ in parameters), *FAMILIES.values())}.values()
    try:
        graph = ModelGraph(description)
        found = [one for family in families for one in _found_of_family(graph, layout, family, parameters, stored)]
    except ValueError as error:
        reason = printable(str(error))
        progress.warn(f"{shown_as}: names and shapes alone tell its network; its model cannot be understood: {reason}")
        return None
    if not found and graph.has_hub_layer:
        if layout != KERAS_WEIGHTS_H5:
            return None  # The module's variables have the names that TF-Slim gave them.
        return ModelRecognition(None, None, _HUB_LAYER)
    if not found:
        wanted = [named] if named else [one for family in families for one in candidates(layout, family, parameters)]
        return ModelRecognition(None, None, _mismatch(graph, wanted, named is not None))
    if len({frozenset((one.names or {}).values()) for one, _ in found}) > 1:
        raise CheckpointError(
            f"cannot tell which network of {shown_as} is meant",
            why=f"its model has {len(found)}",
            details=[f"{_stem_of(one)}: {one.family.describe(one.parameters)}" for one, _ in found],
            fix="save one of them by itself, like model.get_layer(NAME).save('network.keras'), and use that file",
        )
    # What comes before networks with the same layers may tell which one it is.
    own = [(one, before) for one, before in found if before.layers and _is_own_mapping(before, one.network())]
    (recognition, preprocessing), *others = own or found
    network = recognition.network()
    if not preprocessing.layers:
        given = _mapping(*_own_mapping(network))
        progress.note(f"its model maps no images: modules give its network {given}, for images in [0, 1]")
    elif not own:
        progress.warn(f"{shown_as}: what comes before the network is left out: {_described(preprocessing, network)}")
    recognition = dataclasses.replace(recognition, alike=tuple(one.family for one, _ in others))
    return ModelRecognition(recognition, graph.image_size(network), None)


def _found_of_family(
    graph: ModelGraph,
    layout: str,
    family: Family,
    first: Sequence[tuple[Family, Parameters]],
    stored: StoredValues,
) -> list[tuple[Recognition, Preprocessing]]:
    """Returns a model's networks of a family with the names of their values, and what comes before each."""
    for candidate in candidates(layout, family, first):
        if found := graph.find(candidate.network()):
            return [(_with_names(candidate, one, stored), one.preprocessing) for one in found]
    return []


def _with_names(candidate: Recognition, found: Found, stored: StoredValues) -> Recognition:
    weights_and_biases = tuple(_stored_name(weight, stored) for weight in found.classifier)
    recognition = dataclasses.replace(
        candidate,
        num_classes=stored.shapes[weights_and_biases[1]][-1] if weights_and_biases else None,
        classifier=weights_and_biases,
        is_matrix=bool(weights_and_biases) and len(stored.shapes[weights_and_biases[0]]) == 2,
        further=found.further,
        names={variable: _stored_name(weight, stored) for variable, weight in found.weights.items()},
    )
    if misfit := next((one for one in recognition.variable_layouts if stored.shapes[one.name] != one.shape), None):
        raise ValueError(f"{misfit.name} does not have the shape {list(misfit.shape)} that it describes")
    return recognition


def _stem_of(recognition: Recognition) -> str:
    """Returns the name of a network's first value, which shows where in the model it is."""
    return printable(next(iter((recognition.names or {}).values())))


def _stored_name(weight: Weight, stored: StoredValues) -> str:
    for name in _possible_names(weight, stored):
        if name in stored.shapes:
            return name
    raise ValueError(f"the weight {weight.name} of its layer {weight.call} is not stored")


def _possible_names(weight: Weight, stored: StoredValues) -> Iterator[str]:
    """Yields what the kinds of Keras' files may call a weight."""
    call, key = weight.call, weight.name
    outermost, layer = call.path[0], call.path[-1]
    if len(call.path) == 1:
        yield f"{outermost}/{key}"  # `.h5`
    else:
        yield f"{outermost}/{layer}/{key}"
        # Keras 3 writes the names of sequential models in between.
        nested = [
            name for name in stored.shapes if name.startswith(f"{outermost}/") and name.endswith(f"/{layer}/{key}")
        ]
        yield from nested if len(nested) == 1 else ()
        yield f"{outermost}/{key}"  # A model within the model that has no other layer with weights.
    yield f"layers/{'/layers/'.join(call.numbered)}/vars/{weight.number}"  # `.weights.h5` and `.keras`
    yield f"{layer}/{key}"  # TensorFlow's own files, by the names of variables.
    yield f"{layer}/depthwise_{key}"


def _mismatch(graph: ModelGraph, wanted: Sequence[Recognition], named: bool) -> str:
    """Says why a model is none of the wanted networks, which its values may have the names and shapes of."""
    if application := application_with(graph.layer_names):
        return f"its layers are those of Keras' {application.title}, which {application.difference}"
    differences = [(graph.difference(dataclasses.replace(one, num_classes=None).network()), one) for one in wanted]
    difference, closest = max(differences, key=lambda pair: (pair[0].reached, pair[0].likeness))
    title = closest.family.describe(closest.parameters)
    if named:
        return f"its names and shapes are those of {title}, but its model differs, first in {difference.first}"
    if not difference.reached and difference.likeness < _CLOSE:
        return "its model computes none of the networks that hubexport has"
    return f"its model is close to {title}, but differs, first in {difference.first}"


def _is_own_mapping(preprocessing: Preprocessing, network: Network) -> bool:
    """Tells whether a model maps images as modules of the network do, from [0, 255] or from [0, 1]."""
    if preprocessing.scale is None or preprocessing.offset is None:
        return False
    scales = network.input_scale, network.input_scale / _BYTE_RANGE
    given, own = np.broadcast_arrays(preprocessing.offset, np.negative(network.input_offset))
    is_scaled = any(np.isclose(preprocessing.scale, scale, rtol=_EQUAL, atol=0) for scale in scales)
    return is_scaled and np.allclose(given, own, rtol=_EQUAL, atol=_EQUAL)


def _own_mapping(network: Network) -> tuple[float, npt.NDArray[np.float64]]:
    return network.input_scale, np.negative(network.input_offset)


def _described(preprocessing: Preprocessing, network: Network) -> str:
    names = listed(preprocessing.layers)
    if preprocessing.scale is None or preprocessing.offset is None:
        return names
    scale, offset = _own_mapping(network)
    own = f"{_mapping(scale, offset)} or {_mapping(scale / _BYTE_RANGE, offset)}"
    return f"{names}, with {_mapping(preprocessing.scale, preprocessing.offset)} instead of {own}"


def _mapping(scale: float, offset: npt.ArrayLike) -> str:
    offsets = np.atleast_1d(offset)
    summand = f"{offsets[0]:g}" if len(offsets) == 1 else str([float(f"{one:g}") for one in offsets])
    return f"{scale:.6g} * image + {summand}".replace("+ -", "- ")
