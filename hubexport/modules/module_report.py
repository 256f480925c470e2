"""Describes a module directory without TensorFlow, whichever program wrote it.

What prevents a description is an error. Anything else that is wrong with the module is reported as a problem.
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any, Literal

from google.protobuf.message import DecodeError

from hubexport.checkpoints.archives import MODULE_FILE, MODULE_PREFIX
from hubexport.checkpoints.foreign_files import graph_format, is_graph
from hubexport.errors import ModuleError, UsageError, printable
from hubexport.formats.manifest import Manifest, ManifestError, changed_files, read_manifest
from hubexport.labels import MODULE_LABELS, module_labels
from hubexport.modules.graph_version_report import GraphVersionReport, describe_graph_version
from hubexport.modules.op_versions import Compatibility, oldest_tensorflow
from hubexport.modules.opening import unreadable_error
from hubexport.modules.parameter_counts import ParameterCounts, count_parameters
from hubexport.protos import Message, SavedModel
from hubexport.system.digests import tree_files

Format = Literal["TF1 Hub module", "TF1 SavedModel", "TF2 SavedModel"]

_GRAPH_AS_TEXT = "saved_model.pbtxt"
_HUB_MARK = "tfhub_module.pb"
# A serialized ModuleDef{format: FORMAT_V3}; see tensorflow_hub/module_def.proto.
_HUB_FORMAT_3 = b"\x08\x03"
# The graphs of large networks take 10 MiB. A graph of empty parts takes up to a hundred times its size in memory, and
# minutes to go through.
_MAX_GRAPH_BYTES = 32 << 20
_MAX_NODES = 1_000_000
_MAX_GRAPH_VERSIONS = 100


@dataclasses.dataclass(frozen=True)
class FileSizes:
    """The sizes of a module's files: `saved_model.pb`, all in `variables`, all in `assets`, the rest, and the total."""

    graph_bytes: int
    weights_bytes: int
    assets_bytes: int
    other_bytes: int
    total_bytes: int


@dataclasses.dataclass(frozen=True)
class ModuleReport:
    """The description of a module.

    Attributes:
        path: the path or address by which the user named it.
        format: the module's format, which decides how to load it.
        written_by: the TensorFlow that wrote it, like `2.15.1`; None if it does not say.
        manifest: the content of `hubexport.json`; None if that is missing or invalid.
        graph_versions: its graph versions, in the file's order.
        parameters: the number of its parameters; None if its weights are damaged.
        labels: the number of class names in its `assets/labels.txt`; None if there is no such file, or it is not a file
            of labels.
        sizes: the sizes of its files.
        op_counts: the number of nodes by op, in all graphs and functions, the most frequent op first.
        compatibility: the oldest TensorFlow that can load all of its graph versions.
        digest_problems: a sentence for each file that differs from the digests in `hubexport.json`; None without
            `hubexport.json`.
        problems: a sentence for anything else that is wrong.
    """

    path: str
    format: Format
    written_by: str | None
    manifest: Manifest | None
    graph_versions: tuple[GraphVersionReport, ...]
    parameters: ParameterCounts | None
    labels: int | None
    sizes: FileSizes
    op_counts: dict[str, int]
    compatibility: Compatibility
    digest_problems: tuple[str, ...] | None
    problems: tuple[str, ...]

    @property
    def has_problems(self) -> bool:
        """Whether there are problems of either kind."""
        return bool(self.problems or self.digest_problems)

    def as_json(self) -> dict[str, Any]:
        """Returns the report for `json.dumps`, always with the same keys."""
        described = dataclasses.asdict(self)
        described["manifest"] = self.manifest and self.manifest.model_dump(mode="json")
        return described


def describe_module(directory: Path, shown_as: Path | str | None = None) -> ModuleReport:
    """Describes a module.

    Args:
        directory: the module's directory.
        shown_as: what the report and errors call it, if the directory is a copy of something else.
    Raises:
        ModuleError: the directory has no `saved_model.pb`, or that is damaged, or a file cannot be read.
    """
    shown_as = shown_as or directory
    saved_model = read_saved_model(directory, shown_as)
    try:
        files = tree_files(directory)
        sizes = _measure(directory, files)
        format_, problems = _recognize(directory, saved_model)
    except OSError as error:
        raise unreadable_error(shown_as, error) from error
    is_hub_module = format_ == "TF1 Hub module"
    writers = [meta_graph.meta_info_def.tensorflow_version for meta_graph in saved_model.meta_graphs]
    labels, labels_problem = _count_labels(directory)
    parameters, weights_problem = count_parameters(directory, saved_model)
    manifest, digest_problems = _check_digests(directory, files)
    return ModuleReport(
        path=str(shown_as),
        format=format_,
        written_by=next((printable(version) for version in writers if version), None),
        manifest=manifest,
        graph_versions=tuple(
            describe_graph_version(meta_graph, oldest_tensorflow([meta_graph], is_hub_module=is_hub_module).oldest)
            for meta_graph in saved_model.meta_graphs
        ),
        parameters=parameters,
        labels=labels,
        sizes=sizes,
        op_counts=_count_ops(saved_model),
        compatibility=oldest_tensorflow(saved_model.meta_graphs, is_hub_module=is_hub_module),
        digest_problems=digest_problems,
        problems=(*problems, *filter(None, (weights_problem, labels_problem))),
    )


def read_saved_model(directory: Path, shown_as: Path | str) -> Message:
    """Reads a module's `saved_model.pb`, and returns the SavedModel.

    Args:
        directory: the module's directory.
        shown_as: what errors call it.
    Raises:
        ModuleError: the file is missing, damaged, or too large.
    """
    path = directory / MODULE_FILE
    try:
        if not path.is_file():
            raise no_module_error(directory, shown_as)
        if path.stat().st_size > _MAX_GRAPH_BYTES:
            if not (directory / f"{MODULE_PREFIX}.index").is_file():
                raise _no_variables_error(
                    shown_as, f"more than {_MAX_GRAPH_BYTES >> 20} MiB in {MODULE_FILE} are constants"
                )
            raise _damaged(shown_as, f"{MODULE_FILE} is larger than {_MAX_GRAPH_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise unreadable_error(shown_as, error) from error
    return parse_saved_model(content, shown_as)


def parse_saved_model(content: bytes, shown_as: Path | str) -> Message:
    """Parses the content of a `saved_model.pb`, and returns the SavedModel.

    Args:
        content: the file's bytes.
        shown_as: what errors call the module.
    Raises:
        ModuleError: it is damaged, or has too many graphs or nodes.
    """
    if is_graph(content):
        raise _no_variables_error(shown_as, f"{MODULE_FILE} is a graph alone (GraphDef), not a SavedModel")
    try:
        saved_model = SavedModel.FromString(content)
    except DecodeError as error:
        raise _damaged(shown_as, f"{MODULE_FILE} cannot be decoded") from error
    if len(saved_model.meta_graphs) > _MAX_GRAPH_VERSIONS or any(map(_is_too_large, saved_model.meta_graphs)):
        raise _damaged(shown_as, f"{MODULE_FILE} has more than {_MAX_GRAPH_VERSIONS} graphs or {_MAX_NODES:,} nodes")
    if not any(meta_graph.ListFields() for meta_graph in saved_model.meta_graphs):
        raise _damaged(shown_as, f"{MODULE_FILE} holds no graph")
    return saved_model


def _is_too_large(meta_graph: Message) -> bool:
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def.nodes
    ops = meta_graph.meta_info_def.stripped_op_list.op
    parts = len(graph.node) + len(graph.library.function) + len(objects) + len(ops)
    return parts > _MAX_NODES or sum(len(function.node_def) for function in graph.library.function) > _MAX_NODES


def no_module_error(directory: Path, shown_as: Path | str) -> ModuleError:
    """Returns the error for a directory without `saved_model.pb`."""
    if (directory / _GRAPH_AS_TEXT).is_file():
        return _damaged(shown_as, f"it has {_GRAPH_AS_TEXT}, the text form; hubexport reads only {MODULE_FILE}")
    return ModuleError(
        f"no module in {shown_as}",
        why=f"it has no file {MODULE_FILE}",
        fix=f"use the directory that holds {MODULE_FILE}, like OUTPUT_DIR/google/imagenet/VARIANT/KIND/VERSION",
    )


def _no_variables_error(shown_as: Path | str, why: str) -> ModuleError:
    return ModuleError(f"{shown_as} is not a module with variables", why=why, fix=graph_format(frozen=True).fix)


def _damaged(shown_as: Path | str, why: str) -> ModuleError:
    return ModuleError(f"cannot read module {shown_as}", why=why, fix="build, export or fetch the module again")


def _measure(directory: Path, files: Sequence[Path]) -> FileSizes:
    parts: Counter[str] = Counter()
    for path in files:
        parts[path.relative_to(directory).parts[0]] += path.stat().st_size
    graph, weights, assets = parts[MODULE_FILE], parts["variables"], parts["assets"]
    total = parts.total()
    return FileSizes(graph, weights, assets, total - graph - weights - assets, total)


def _count_labels(directory: Path) -> tuple[int | None, str | None]:
    """Returns the number of class names, None if there are none; and what is wrong with their file."""
    try:
        names = module_labels(directory)
    except UsageError as error:
        return None, f"{MODULE_LABELS}: {error.why}"
    return None if names is None else len(names), None


def _recognize(directory: Path, saved_model: Message) -> tuple[Format, list[str]]:
    """Returns a module's format, and what is wrong with the file that marks the TF1 Hub format."""
    mark = directory / _HUB_MARK
    if mark.is_file():
        with mark.open("rb") as file:
            if file.read(len(_HUB_FORMAT_3)) == _HUB_FORMAT_3:
                return "TF1 Hub module", []
        return "TF1 Hub module", [f"{_HUB_MARK} does not say format 3, the only one that hub.Module loads"]
    if any(meta_graph.object_graph_def.nodes for meta_graph in saved_model.meta_graphs):
        return "TF2 SavedModel", []
    # Only in a Hub module is there a graph version without tags: the one for inference.
    if any(not meta_graph.meta_info_def.tags for meta_graph in saved_model.meta_graphs):
        return "TF1 Hub module", [f"{_HUB_MARK} is missing, and hub.Module does not load modules without it"]
    return "TF1 SavedModel", []


def _check_digests(directory: Path, files: Sequence[Path]) -> tuple[Manifest | None, tuple[str, ...] | None]:
    try:
        manifest = read_manifest(directory)
    except ManifestError as error:
        return None, (str(error),)
    return manifest, tuple(changed_files(directory, files, manifest.sha256)) if manifest else None


def _count_ops(saved_model: Message) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            counts.update(printable(node.op) for node in nodes)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
