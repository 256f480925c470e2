"""The interface of models that tests make up, which are in no file."""

from hubexport.modules.image_interface import ImageInterface


class OpenInterface(ImageInterface):
    """Of a model without names of classes."""

    def class_names(self):
        """Returns none."""
        return None

    def manifest(self):
        """Returns none."""
        return None
