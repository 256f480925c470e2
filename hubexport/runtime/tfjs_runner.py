"""Runs graph models of TF.js on images in TensorFlow, without Node."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import tensorflow as tf

from hubexport.arrays import Array
from hubexport.deployments.tfjs_files import read_tfjs_model
from hubexport.errors import ModuleError
from hubexport.modules.deployment_interface import DeploymentInterface
from hubexport.modules.graph_version_report import DEFAULT
from hubexport.runtime.model_input import as_input, in_batches
from hubexport.runtime.tfjs_graph import TfjsGraph, opened_tfjs_graph

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


class TfjsModule:
    """A graph model that is loaded for inference; an `ImageModule`.

    Args:
        interface: how it is run.
        graph: its graph.
        outputs: the keys of its outputs by those that callers use: `default`, and others.
    """

    engine = f"TensorFlow {tf.__version__}"

    def __init__(self, interface: DeploymentInterface, graph: TfjsGraph, outputs: Mapping[str, str]) -> None:
        self.interface = interface
        self._graph = graph
        self._outputs = outputs

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        for output in outputs:
            if output not in self._outputs:
                raise ModuleError(
                    f"{self.interface.shown_as} has no output {output}",
                    why=f"it gives {', '.join(self._outputs)}",
                    fix="use one of these",
                )
        prepared = as_input(images, self.interface)
        return in_batches(prepared, self.interface.batch, functools.partial(self._run, outputs))

    def features(self, images: Array) -> Array:
        output = self.interface.features_from or DEFAULT
        features = self.run(images, [output])[output]
        return features.reshape(len(features), -1)

    def _run(self, outputs: Sequence[str], images: npt.NDArray[Any]) -> dict[str, Array]:
        found = self._graph.run({self.interface.images.name: images}, [self._outputs[one] for one in outputs])
        return {output: found[self._outputs[output]] for output in outputs}


@contextlib.contextmanager
def opened_tfjs(interface: DeploymentInterface) -> "Iterator[ImageModule]":
    """Loads a graph model into TensorFlow, for as long as the context lasts.

    Raises:
        ModuleError: its files are damaged, or it has ops that are not run.
    """
    outputs = {DEFAULT: interface.output} | {one.name: one.name for one in interface.report.outputs}
    with opened_tfjs_graph(read_tfjs_model(interface.path)) as graph:
        yield TfjsModule(interface, graph, outputs)
