"""What networks converted from Caffe have in common: the images that they take, and the mean in their checkpoints."""

from hubexport.networks.family import UnusedVariables

# Caffe's models take intensities up to 255, without the mean of each of red, green and blue.
INPUT_RANGE = (0.0, 255.0)
CHANNEL_MEANS = (123.68, 116.78, 103.94)
# ImageNet's, without a background class.
CLASSES = 1000


def mean_rgb(root: str) -> UnusedVariables:
    """Returns the variable of a checkpoint that says which means its network was trained with."""
    return UnusedVariables(f"{root}/mean_rgb", "mean of RGB", value=CHANNEL_MEANS)
