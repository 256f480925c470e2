"""Runs modules of hubexport in ONNX Runtime: their values in the ONNX model of their network, without TensorFlow."""

from contextlib import AbstractContextManager, nullcontext
import functools
from typing import TYPE_CHECKING

from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.onnx_model import onnx_model
from hubexport.deployments.options import OnnxOptions
from hubexport.errors import ModuleError
from hubexport.formats.manifest import MANIFEST
from hubexport.modules.graph_version_report import DEFAULT
from hubexport.modules.identity import identify
from hubexport.modules.saved_model_interface import SavedModelInterface
from hubexport.modules.values import network_values, read_stored_values
from hubexport.runtime.model_input import in_range
from hubexport.runtime.onnx_runner import OnnxModule

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


def opened_on_onnx(interface: SavedModelInterface) -> "AbstractContextManager[ImageModule]":
    """Loads a module into ONNX Runtime.

    Its manifest tells the network, and nothing else would: a graph of the same variables may compute something else.

    Raises:
        ModuleError: it is not a module of hubexport, is damaged, or has been changed.
    """
    report = interface.report
    if report.manifest is None or report.digest_problems:
        what = report.digest_problems[0] if report.digest_problems else f"it has no {MANIFEST}"
        raise ModuleError(
            f"cannot run {interface.shown_as} in ONNX Runtime",
            why=f"nothing says for sure which network it computes: {what}",
            fix="use --engine tensorflow, or build it with hubexport",
        )
    module = identify(interface.path, interface.shown_as)
    values = network_values(module, read_stored_values(module))
    options, features = OnnxOptions(), module.network.features_endpoint
    model = inference_model(module.variant.name, module.network, values, options, endpoints=[features])
    main, *_ = model.outputs
    outputs = {DEFAULT: main}
    if interface.features_from:
        outputs[interface.features_from] = features
    content = onnx_model(model, options).SerializeToString()
    return nullcontext(OnnxModule(interface, content, outputs, functools.partial(in_range, interface=interface)))
