"""What tables on a module's page show: its signatures, its layers, its checks and its files, read from the release."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Literal

import pydantic
from pydantic import ConfigDict

from hubexport.errors import CheckpointError, ModuleError
from hubexport.modules.graph_version_report import CallReport, GraphVersionReport, TensorReport, describe_graph_version
from hubexport.modules.module_report import parse_saved_model
from hubexport.networks.layers import Convolution, Layer
from hubexport.networks.registry import NETWORKS
from hubexport.release.index import SUFFIXES, ArtifactRecord, ReleaseFile
from hubexport.release.untrusted_folder import (
    UntrustedFileError,
    UntrustedFolder,
    parsed,
    read_failures_told,
    read_listed,
)
from hubexport.site import words
from hubexport.site.catalogue import network_of
from hubexport.system.tars import MODULE_FILE, read_file

# Far more than our graphs have; all of it is in memory while it is read.
_MAX_GRAPH_BYTES = 16 << 20
# Of those that are shown; more are counted.
_MAX_SIGNATURES = 20
_MAX_TENSORS = 500
_MAX_CHECKS = 500

_FILE_WORDS = {
    "archive": "the packed module",
    "page": "this page as Markdown",
    "card": "the model card",
    "verification": "all checks with figures and limits",
    "provenance": "what it was made from, and how",
    "record": "these facts for programs",
    "sbom": "the packages installed where it was made",
}


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """An input or output of a signature; the shape is in words."""

    role: Literal["input", "output"]
    name: str
    dtype: str
    shape: str


@dataclasses.dataclass(frozen=True)
class SignatureTable:
    """A signature, or a call of the whole module; endpoints are left out of it."""

    name: str
    rows: tuple[TensorRow, ...]


@dataclasses.dataclass(frozen=True)
class InterfaceTables:
    """What a module takes and gives.

    Attributes:
        tags: of each of its graph versions.
        signatures: of the first one, that of inference; the call of a TF2 SavedModel comes before them.
        endpoints: intermediate results, each once.
        left_out: how many signatures and endpoints are too many to be shown.
    """

    tags: tuple[str, ...]
    signatures: tuple[SignatureTable, ...]
    endpoints: tuple[TensorRow, ...]
    left_out: int


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer of the network; the shape is that of its output, without the batch."""

    name: str
    operation: str
    shape: str
    parameters: int
    multiply_adds: int


@dataclasses.dataclass(frozen=True)
class FileRow:
    """A file of the release: what it is for, and its name without folders."""

    file: ReleaseFile
    name: str
    meaning: str


class CheckRow(pydantic.BaseModel):
    """What became of one check; see `hubexport.verify.result.Result`."""

    model_config = ConfigDict(strict=True, frozen=True)

    check: str
    status: Literal["pass", "fail", "not applicable"]
    explanation: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""


class ReportTable(pydantic.BaseModel):
    """What `hubexport verify` found, as far as it is shown."""

    model_config = ConfigDict(strict=True, frozen=True)

    checks: list[CheckRow]
    versions: dict[str, str]


def read_interface(folder: UntrustedFolder, record: ArtifactRecord) -> InterfaceTables:
    """Reads a module's signatures from its archive, as far as the graph; its digest is not compared.

    Raises:
        WrongError: they cannot be read.
    """
    file = record.files.get("archive")
    if file is None:
        raise UntrustedFileError("is not listed")
    try:
        with folder.open(file.path) as opened, read_failures_told():
            content = read_file(Path(file.path), opened, MODULE_FILE, _MAX_GRAPH_BYTES)
        if content is None:
            raise UntrustedFileError(f"has no {MODULE_FILE} near its start")
        graphs = parse_saved_model(content, file.path).meta_graphs
    except (CheckpointError, ModuleError) as error:
        raise UntrustedFileError(error.why) from None
    # Of all graph versions the one with the fewest tags is meant for inference.
    return _interface([describe_graph_version(graph, None) for graph in sorted(graphs, key=_number_of_tags)])


def _number_of_tags(meta_graph: object) -> int:
    return len(meta_graph.meta_info_def.tags)  # type: ignore[attr-defined]


def _interface(versions: Sequence[GraphVersionReport]) -> InterfaceTables:
    first = versions[0]
    hidden = {tensor.name for tensor in first.endpoints}
    tables = [_call(first.call, hidden)] if first.call else []
    tables += [_table(one.name, one.inputs, one.outputs, hidden) for one in first.signatures]
    endpoints = _rows("output", first.endpoints)
    left_out = max(len(tables) - _MAX_SIGNATURES, 0) + max(len(endpoints) - _MAX_TENSORS, 0)
    tags = tuple(f"[{', '.join(version.tags)}]" for version in versions)
    return InterfaceTables(tags, tuple(tables[:_MAX_SIGNATURES]), endpoints[:_MAX_TENSORS], left_out)


def _call(call: CallReport, hidden: set[str]) -> SignatureTable:
    return _table(f"module({', '.join(call.arguments)})", call.inputs, call.outputs, hidden)


def _table(
    name: str, inputs: Sequence[TensorReport], outputs: Sequence[TensorReport], hidden: set[str]
) -> SignatureTable:
    shown = [tensor for tensor in outputs if tensor.name not in hidden]
    return SignatureTable(name, (_rows("input", inputs) + _rows("output", shown))[:_MAX_TENSORS])


def _rows(role: Literal["input", "output"], tensors: Sequence[TensorReport]) -> tuple[TensorRow, ...]:
    return tuple(TensorRow(role, tensor.name, tensor.dtype, words.shape(tensor.shape)) for tensor in tensors)


def read_report(folder: UntrustedFolder, record: ArtifactRecord) -> ReportTable:
    """Reads what `hubexport verify` found.

    Raises:
        WrongError: it cannot be read, or is not what is listed.
    """
    file = record.files.get("verification")
    if file is None:
        raise UntrustedFileError("is not listed")
    report = parsed(ReportTable, read_listed(folder, file))
    if len(report.checks) > _MAX_CHECKS:
        raise UntrustedFileError(f"has {len(report.checks):,} checks, too many for this page")
    return report


def layer_rows(record: ArtifactRecord) -> list[LayerRow]:
    """Lays out a module's network; [] if it is none that is known."""
    if record.network not in NETWORKS:
        return []
    network = network_of(record)
    return [
        LayerRow(
            layer.name,
            _operation(layer),
            words.shape(network.shapes[layer.name]),
            sum(variable.size for variable in layer.variables(*network.input_shapes(layer))),
            layer.multiply_adds(*network.input_shapes(layer)),
        )
        for layer in network.layers
    ]


def _operation(layer: Layer) -> str:
    if not isinstance(layer, Convolution):
        return type(layer).__name__
    stride = f", stride {layer.stride}" if layer.stride > 1 else ""
    activation = f", {layer.activation}" if layer.activation else ""
    return f"{type(layer).__name__} {layer.kernel_size}×{layer.kernel_size}{stride}{activation}"


def file_rows(record: ArtifactRecord) -> list[FileRow]:
    """Returns the files of a module, and those that it shares."""
    files = [(record.files[role], _FILE_WORDS[role]) for role in SUFFIXES if role in record.files]
    files += [(record.own_file(), _FILE_WORDS["record"]), (record.sbom, _FILE_WORDS["sbom"])]
    return [FileRow(file, file.path.rpartition("/")[2], meaning) for file, meaning in files]
