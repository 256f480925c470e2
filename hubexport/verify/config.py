"""The config of what is verified."""

from hubexport.config_files import load_variant
from hubexport.errors import ConfigError
from hubexport.modules.identity import ModuleIdentity
from hubexport.variants import Variant


def config_of(module: ModuleIdentity) -> Variant | None:
    """Returns the config of a module's variant: the caller's, or the built-in one of its name and network.

    None if only the manifest describes the variant.
    """
    variant = module.variant
    if not module.described:
        return variant
    try:
        builtin = load_variant(variant.name)
    except ConfigError:
        return None
    return builtin if builtin.network_for(module.spec.kind, module.spec.version) == module.network else None
