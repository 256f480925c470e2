"""The values in a module's `variables` folder, by variable name, read without TensorFlow."""

from collections.abc import Mapping

from hubexport.arrays import Array
from hubexport.checkpoints.dtypes import NUMPY_NUMBERS
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.errors import ModuleError
from hubexport.modules.identity import ModuleIdentity
from hubexport.system.damage import DamageError


def open_stored_values(module: ModuleIdentity) -> StoredValues:
    """Opens a module's `variables` folder. Reads the index, and no value yet.

    Raises:
        DamageError: the index or the object graph is damaged.
        OSError: a file is missing or cannot be read.
    """
    bundle = BundleReader(module.directory / "variables" / "variables")
    return bundle if module.is_tf1 else ValuesByVariable(bundle)


def read_stored_values(module: ModuleIdentity) -> dict[str, Array]:
    """Reads all values that a module stores, by variable name.

    In a sound module, they are the network's and float32. A damaged one may have others; those of dtypes that NumPy
    lacks are left out.

    Raises:
        ModuleError: the values are missing or damaged.
    """
    try:
        stored = open_stored_values(module)
        return {name: stored.read(name) for name in stored.shapes if stored.dtype(name) in NUMPY_NUMBERS}
    except (DamageError, OSError) as error:
        raise ModuleError(
            f"cannot read the values of {module.shown_as}", why=str(error), fix="build or fetch it again"
        ) from error


def network_values(module: ModuleIdentity, stored: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the values of the network's variables, out of all that `read_stored_values` returned for a module.

    Raises:
        ModuleError: a variable is missing or has the wrong shape.
    """
    for variable in module.network.variables:
        if variable.name not in stored or stored[variable.name].shape != variable.shape:
            raise ModuleError(
                f"cannot compute the expected outputs of {module.shown_as}",
                why=f"its variable {variable.name} is missing or has the wrong shape",
                fix="build or fetch it again",
            )
    return {variable.name: stored[variable.name] for variable in module.network.variables}
