"""The values of a Keras file, and its description of their model."""

from collections.abc import Iterator, Mapping

from hubexport.checkpoints.stored_values import Renamed, StoredValues, unique_dict
from hubexport.networks.ops import Shape
from hubexport.system.damage import DamageError

# The groups in which `.h5` files list their layers: the root for weights alone, the other for whole models.
_ROOTS = ("", "model_weights")


class KerasValues(Renamed):
    """A Keras file's values, by `LAYER/WEIGHT` if it is an `.h5` file, otherwise by their paths in the file.

    Args:
        stored: all values by path.
        attributes: an `.h5` file's lists of layers and weights, by `PATH@NAME`.
        model_config: see below.
    Attributes:
        model_config: Keras' description of the model, in JSON; None if the file holds only weights.
    Raises:
        DamageError: a listed weight is missing, or two weights get the same name.
    """

    def __init__(self, stored: StoredValues, attributes: Mapping[str, list[str]], model_config: str | None) -> None:
        layers = _names_by_layer(attributes, stored)
        super().__init__(stored, unique_dict((layers.get(path, path), path) for path in stored.shapes))
        self.model_config = model_config


class WithDescription(StoredValues):
    """Stored values, some of them as bits, together with values of which only dtype and shape are known.

    Args:
        stored: the values.
        bits_of: the dtypes of the values that are stored as their bits, by name.
        unread: the dtypes and shapes of the others, by name.
    """

    def __init__(
        self, stored: StoredValues, bits_of: Mapping[str, str], unread: Mapping[str, tuple[str, Shape]]
    ) -> None:
        self._stored = stored
        self._unread = unread
        self._dtypes = {**bits_of, **{name: dtype for name, (dtype, _) in unread.items()}}
        self.shapes = {**stored.shapes, **{name: shape for name, (_, shape) in unread.items()}}

    def dtype(self, name: str) -> str:
        return self._dtypes.get(name) or self._stored.dtype(name)

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        """Reads the bytes of one value; None if only its dtype and shape are known."""
        return None if name in self._unread else self._stored.stored_chunks(name)


def _names_by_layer(attributes: Mapping[str, list[str]], stored: StoredValues) -> dict[str, str]:
    """Returns the name of each weight that an `.h5` file lists, by the weight's path."""
    names: dict[str, str] = {}
    for root in _ROOTS:
        prefix = f"{root}/" if root else ""
        for layer in attributes.get(f"{root}@layer_names", []):
            weights = attributes.get(f"{prefix}{layer}@weight_names", [])
            for weight, name in _weight_names(weights).items():
                path = f"{prefix}{layer}/{weight}"
                if path not in stored.shapes:
                    raise DamageError(f"{path} is listed among its weights, but missing")
                names[path] = f"{layer}/{name}"
    return names


def _weight_names(weights: list[str]) -> dict[str, str]:
    """Returns the short names of a layer's weights: `kernel`, or `Conv1/kernel` in a model within the model.

    Keras 2 writes `expanded_conv_depthwise/depthwise_kernel:0` where Keras 3 writes `kernel`.
    """
    scopes = {weight: weight.rpartition("/")[0] for weight in weights}
    own = {weight: weight.rpartition("/")[2].removesuffix(":0") for weight in weights}
    short = {weight: "kernel" if name == "depthwise_kernel" else name for weight, name in own.items()}
    if len(set(scopes.values())) > 1:
        short = {weight: f"{scopes[weight]}/{name}".lstrip("/") for weight, name in short.items()}
    return short if len(set(short.values())) == len(short) else {weight: weight for weight in weights}
