"""The fields of a model that name a family and hold its parameters, as configs, manifests and indexes have them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import AfterValidator, Field, PlainValidator, SerializerFunctionWrapHandler, ValidationInfo

from hubexport.errors import either, guess
from hubexport.networks.family import Family, Parameters
from hubexport.networks.registry import FAMILIES

# The names of all families' parameters. No other key of a config, a manifest or an index may have one.
PARAMETER_NAMES = frozenset(name for family in FAMILIES.values() for name in family.parameters.model_fields)


def _known_network(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"{either(list(FAMILIES))}{guess(name, FAMILIES)}")
    return name


def _parameters_of_family(values: object, info: ValidationInfo) -> Parameters:
    if "network" not in info.data:  # It is wrong, and reported already: nobody knows the parameters.
        return Parameters()
    return FAMILIES[info.data["network"]].parameters.model_validate(values)


NetworkName = Annotated[str, AfterValidator(_known_network)]
# The parameters that the family in the field `network`, which comes before, has.
FamilyParameters = Annotated[Parameters, PlainValidator(_parameters_of_family), Field(exclude=True)]


class SpreadParameters(pydantic.BaseModel):
    """A model with fields `network` and `family_parameters`. In files, the parameters stand beside the other keys."""

    if TYPE_CHECKING:  # Models have the two in places of their own.
        network: Any
        family_parameters: Any

    @property
    def family(self) -> Family:
        """The network's family."""
        return FAMILIES[self.network]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _gather(cls, values: object) -> object:
        if not isinstance(values, Mapping) or "family_parameters" in values:
            return values
        parameters = {name: value for name, value in values.items() if name in PARAMETER_NAMES}
        return {name: value for name, value in values.items() if name not in parameters} | {
            "family_parameters": parameters
        }

    @pydantic.model_serializer(mode="wrap")
    def _spread(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return spread_parameters(serialize(self), self.family_parameters)


def spread_parameters(values: Mapping[str, Any], parameters: Parameters | Mapping[str, float] | None) -> dict[str, Any]:
    """Puts a family's parameters into a mapping, after the name of the network."""
    spread: dict[str, Any] = {}
    for name, value in values.items():
        spread[name] = value
        if name == "network":
            spread |= dict(parameters or {})
    return spread
