"""The tables on a module's page: its signatures, layers, checks and files, read from the release."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Literal

import pydantic
from pydantic import ConfigDict

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.errors import ModuleError, UsageError
from hubexport.labels import MODULE_LABELS, labels_problem, parse_labels
from hubexport.modules.graph_version_report import GraphVersionReport, TensorReport, describe_graph_version
from hubexport.modules.module_report import parse_saved_model
from hubexport.networks.costs import multiply_adds
from hubexport.readable_numbers import readable_shape
from hubexport.release.index import SUFFIXES, ArtifactRecord, ReleaseFile
from hubexport.release.untrusted_folder import (
    UntrustedFileError,
    UntrustedFolder,
    os_errors_converted,
    parsed,
    read_listed,
)
from hubexport.system.tars import ArchiveError, read_near_start

# Far more than our graphs need. The file is read into memory.
_MAX_GRAPH_BYTES = 16 << 20
# Enough for the names of twenty thousand classes.
_MAX_LABELS_BYTES = 1 << 20
# Pages show no more than these.
_MAX_SIGNATURES = 20
_MAX_TENSORS = 500
_MAX_CHECKS = 500

_FILE_PURPOSES = {
    "archive": "the packed module",
    "page": "this page as Markdown",
    "card": "the model card",
    "verification": "all checks with figures and limits",
    "provenance": "what it was made from, and how",
    "record": "these facts for programs",
    "sbom": "the packages installed where it was made",
}


# The role of a tensor in a signature, and the tensor.
TensorRow = tuple[Literal["input", "output"], TensorReport]


@dataclasses.dataclass(frozen=True)
class SignatureTable:
    """A signature or the module's `__call__`, without endpoints."""

    name: str
    rows: Sequence[TensorRow]


@dataclasses.dataclass(frozen=True)
class InterfaceTables:
    """A module's inputs and outputs.

    Attributes:
        tags: the tags of each graph version.
        signatures: the signatures of the inference graph, after the `__call__` of a TF2 SavedModel.
        endpoints: intermediate results, each once.
        left_out: the number of signatures and endpoints beyond those shown.
    """

    tags: Sequence[str]
    signatures: Sequence[SignatureTable]
    endpoints: Sequence[TensorRow]
    left_out: int


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer of the network, with its output shape without the batch."""

    name: str
    operation: str
    shape: str
    parameters: int
    multiply_adds: int


class CheckRow(pydantic.BaseModel):
    """The result of a check; see `hubexport.verify.result.CheckResult`."""

    model_config = ConfigDict(strict=True, frozen=True)

    check: str
    status: Literal["pass", "fail", "not applicable"]
    explanation: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""


class ReportTable(pydantic.BaseModel):
    """The part of a verification's JSON that pages show."""

    model_config = ConfigDict(strict=True, frozen=True)

    checks: list[CheckRow]
    versions: dict[str, str]


def read_interface(folder: UntrustedFolder, record: ArtifactRecord) -> InterfaceTables:
    """Reads a module's signatures from its archive, without reading the rest or comparing its digest.

    Raises:
        UntrustedFileError: the archive is missing, damaged, or has no graph near its start.
    """
    file = record.files.get("archive")
    if file is None:
        raise UntrustedFileError("is not listed")
    try:
        with folder.open(file.path) as opened, os_errors_converted():
            content = read_near_start(Path(file.path), opened, MODULE_FILE, _MAX_GRAPH_BYTES)
        if content is None:
            raise UntrustedFileError(f"has no {MODULE_FILE} near its start")
        graphs = parse_saved_model(content, file.path).meta_graphs
    except (ArchiveError, ModuleError) as error:
        raise UntrustedFileError(error.why) from None
    # The graph version with the fewest tags is for inference.
    versions = sorted((describe_graph_version(graph, None) for graph in graphs), key=lambda version: len(version.tags))
    return _interface(versions)


def _interface(versions: Sequence[GraphVersionReport]) -> InterfaceTables:
    inference = versions[0]
    hidden = {tensor.name for tensor in inference.endpoints}
    tables = []
    if call := inference.call:
        tables.append(_table(f"module({', '.join(call.arguments)})", call.inputs, call.outputs, hidden))
    tables += [
        _table(signature.name, signature.inputs, signature.outputs, hidden) for signature in inference.signatures
    ]
    endpoints: list[TensorRow] = [("output", tensor) for tensor in inference.endpoints]
    left_out = max(len(tables) - _MAX_SIGNATURES, 0) + max(len(endpoints) - _MAX_TENSORS, 0)
    tags = [f"[{', '.join(version.tags)}]" for version in versions]
    return InterfaceTables(tags, tables[:_MAX_SIGNATURES], endpoints[:_MAX_TENSORS], left_out)


def _table(
    name: str, inputs: Sequence[TensorReport], outputs: Sequence[TensorReport], hidden: set[str]
) -> SignatureTable:
    rows: list[TensorRow] = [("input", tensor) for tensor in inputs]
    rows += [("output", tensor) for tensor in outputs if tensor.name not in hidden]
    return SignatureTable(name, rows[:_MAX_TENSORS])


def read_class_names(folder: UntrustedFolder, record: ArtifactRecord) -> list[str]:
    """Reads the names of a module's classes from its archive, without reading the rest or comparing its digest.

    Returns:
        The names, class 0 first; empty if the module has none, or none that are one for each of its classes.
    Raises:
        UntrustedFileError: the archive is missing or damaged.
    """
    file = record.files.get("archive")
    if file is None or record.num_classes is None:
        return []
    with folder.open(file.path) as opened, os_errors_converted():
        try:
            content = read_near_start(Path(file.path), opened, MODULE_LABELS.as_posix(), _MAX_LABELS_BYTES)
            names = parse_labels(content, MODULE_LABELS) if content else []
        except (ArchiveError, UsageError) as error:
            raise UntrustedFileError(error.why) from None
    return [] if labels_problem(names, record.num_classes) else names


def read_report(folder: UntrustedFolder, record: ArtifactRecord) -> ReportTable:
    """Reads the report of `hubexport verify`.

    Raises:
        UntrustedFileError: the report is missing, damaged, too long, or not the listed one.
    """
    file = record.files.get("verification")
    if file is None:
        raise UntrustedFileError("is not listed")
    report = parsed(ReportTable, read_listed(folder, file))
    if len(report.checks) > _MAX_CHECKS:
        raise UntrustedFileError(f"has {len(report.checks):,} checks, too many for this page")
    return report


def layer_rows(record: ArtifactRecord) -> list[LayerRow]:
    """Returns the layers of a module's network, at its default size."""
    network = record.family.network(record.family_parameters, record.image_size, record.num_classes)
    costs = multiply_adds(network)
    return [
        LayerRow(
            layer.name,
            layer.operation,
            readable_shape(network.shapes[layer.output]),
            sum(variable.size for variable in layer.variables),
            sum(costs[op.name] for op in layer.ops),
        )
        for layer in network.layers
    ]


def trainable_parameters(record: ArtifactRecord) -> int:
    """Returns the number of values in a module's network that training changes by gradients."""
    network = record.family.network(record.family_parameters, record.image_size, record.num_classes)
    return sum(variable.size for variable in network.variables if variable.trainable)


def file_rows(record: ArtifactRecord) -> list[tuple[ReleaseFile, str]]:
    """Returns a module's files, with the SBOM that it shares with others, and what each is for."""
    files = [(record.files[role], _FILE_PURPOSES[role]) for role in SUFFIXES if role in record.files]
    return [*files, (record.own_file(), _FILE_PURPOSES["record"]), (record.sbom, _FILE_PURPOSES["sbom"])]
