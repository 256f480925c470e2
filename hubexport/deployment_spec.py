"""What `hubexport build` makes beside modules: deployments, each of a module, in a format and with its options."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from importlib import metadata
from typing import Any, Literal

import pydantic
from pydantic import ConfigDict

from hubexport.deployments.options import DeploymentOptions
from hubexport.deployments.registry import DEPLOYMENTS, Deployment
from hubexport.errors import UsageError, check_choice, either
from hubexport.networks.endpoint_keys import EndpointRequest, endpoint_keys
from hubexport.variants import ModuleSpec, Variant

# A folder of their own keeps deployments out of the folders of modules.
DEPLOYMENTS_ROOT = "deployments/"
# The quantization that takes a calibration.
_CALIBRATED = "int8"


class DeploymentSpec(ModuleSpec):
    """A deployment of a module, written `kind/version/format`, like `classification/5/tflite-float16`.

    Attributes:
        format: a name in `DEPLOYMENTS`.
        options: of that format.
        endpoints: keys of the endpoints that are outputs, too.
        written_with: the names and versions of the packages that decided its bytes; None for those that are installed.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    format: str
    options: pydantic.InstanceOf[DeploymentOptions]
    endpoints: tuple[str, ...] = ()
    written_with: tuple[tuple[str, str], ...] | None = None

    def __str__(self) -> str:
        return f"{super().__str__()}/{self.name}"

    @property
    def root(self) -> str:
        """What its handle begins with, before the publisher."""
        return DEPLOYMENTS_ROOT

    @property
    def name(self) -> str:
        """The format with what tells its deployments of one module apart, like `tflite-float16`."""
        return f"{self.format}{self.options.suffix}"

    @property
    def deployment(self) -> Deployment:
        """What the format is."""
        return DEPLOYMENTS[self.format]

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose versions decide its bytes."""
        return (*self.deployment.packages, *self.options.packages)

    @property
    def module(self) -> ModuleSpec:
        """The module that it is a deployment of."""
        return ModuleSpec(kind=self.kind, version=self.version)

    def as_json(self) -> dict[str, Any]:
        """Returns what the manifest says of it, with the versions of the packages that decide its bytes."""
        versions = self.written_with
        if versions is None:
            versions = tuple((name, metadata.version(name)) for name in sorted(self.packages))
        return {
            "format": self.format,
            "options": self.options.as_json(),
            "endpoints": list(self.endpoints),
            "written_with": dict(versions),
        }

    @classmethod
    def of_json(cls, module: ModuleSpec, document: Mapping[str, Any]) -> "DeploymentSpec":
        """Returns the deployment that a manifest describes.

        Args:
            module: the kind and version.
            document: has what `as_json` returns.
        Raises:
            UsageError: there is no such format, option or choice.
        """
        format_, options = document["format"], document["options"]
        check_choice("deployment format", format_, [*DEPLOYMENTS])
        known = option_names(DEPLOYMENTS[format_])
        for name in options:
            check_choice("option", name, known)
        return cls(
            kind=module.kind,
            version=module.version,
            format=format_,
            options=DEPLOYMENTS[format_].options.of_json(options),
            endpoints=tuple(document["endpoints"]),
            written_with=tuple(sorted(document["written_with"].items())),
        )


@dataclasses.dataclass(frozen=True)
class DeploymentRequest:
    """A deployment that users ask for, of any module.

    Attributes:
        format: a name in `DEPLOYMENTS`.
        options: of that format.
        endpoints: keys of the endpoints that are outputs, too, or `all`.
    """

    format: str
    options: DeploymentOptions
    endpoints: tuple[str, ...] | Literal["all"] = ()

    def of(self, variant: Variant, module: ModuleSpec) -> DeploymentSpec:
        """Returns the deployment of a variant's module. One that gives features has no probabilities.

        Raises:
            UsageError: the network has no such endpoint.
        """
        options = self.options
        if module.kind != "classification":
            options = dataclasses.replace(options, softmax=False)
        keys = endpoint_keys(variant.network_for(module.kind), variant.family, self.endpoints)
        return DeploymentSpec(**dict(module), format=self.format, options=options, endpoints=keys)


def deployment_requests(
    names: Iterable[str], chosen: Mapping[str, Any], endpoints: EndpointRequest = ()
) -> tuple[DeploymentRequest, ...]:
    """Returns what users ask for, each once and in the order given.

    Args:
        names: of deployments, like `onnx` or `tflite-float16`: a format, and how its weights are quantized.
        chosen: options by name. Each goes to the formats that have it.
        endpoints: keys of the endpoints that are outputs, too, or `all`.
    Raises:
        UsageError: there is no such format or choice, or no format has an option.
    """
    names, keys = list(names), endpoints if endpoints == "all" else tuple(endpoints)
    calibrated = chosen.get("quantize") == _CALIBRATED or any(name.endswith(f"-{_CALIBRATED}") for name in names)
    requests: dict[DeploymentRequest, None] = {}
    used: set[str] = set()
    for name in names:
        format_, _, quantization = name.partition("-")
        check_choice("deployment", format_, [*DEPLOYMENTS])
        known = option_names(DEPLOYMENTS[format_])
        options = {option: value for option, value in chosen.items() if option in known}
        used.update(options)
        if quantization:
            if options.get("quantize", quantization) != quantization and format_ not in names:
                raise UsageError(
                    f"{name} and the quantization {options['quantize']} exclude each other",
                    why="the name of a deployment says how its values are stored",
                    fix="leave out one of them",
                )
            if "quantize" not in known:
                raise UsageError(
                    f"there is no deployment {name}",
                    why=f"{DEPLOYMENTS[format_].title} has no quantization to choose",
                    fix=f"use {format_}",
                )
            options["quantize"] = quantization
        if calibrated and options.get("quantize") != _CALIBRATED:
            options.pop("calibration", None)  # It is for the others.
        requests[DeploymentRequest(format_, DEPLOYMENTS[format_].options(**options), keys)] = None
    if unused := [option for option in chosen if option not in used]:
        having = [name for name, one in DEPLOYMENTS.items() if unused[0] in option_names(one)]
        raise UsageError(
            f"no deployment takes the option {unused[0]}",
            why=f"it is one of {either(having)}",
            fix="leave it out, or add such a deployment",
        )
    return tuple(requests)


def option_names(deployment: Deployment) -> list[str]:
    """Returns the names of a format's options."""
    return [field.name for field in dataclasses.fields(deployment.options)]


def with_deployments(
    variant: Variant, modules: Sequence[ModuleSpec], requests: Sequence[DeploymentRequest]
) -> tuple[ModuleSpec, ...]:
    """Returns a variant's modules, followed by the deployments of each.

    Raises:
        UsageError: the network has no such endpoint, or no module has a classifier to give probabilities.
    """
    if any(request.options.softmax for request in requests) and all(one.kind == "feature_vector" for one in modules):
        raise UsageError(
            f"no module of {variant.name} has probabilities",
            why="only feature vectors are asked for, without a classifier",
            fix="leave the softmax out, or ask for classification, too",
        )
    return (*modules, *(request.of(variant, module) for module in modules for request in requests))
