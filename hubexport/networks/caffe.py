"""What networks converted from Caffe have in common: the images that they take, and the mean in their checkpoints."""

from hubexport.networks.family import PretrainedModels, UnusedVariables, models_of_tf_slim

# Caffe's models take intensities up to 255, without the mean of each of red, green and blue.
INPUT_RANGE = (0.0, 255.0)
CHANNEL_MEANS = (123.68, 116.78, 103.94)
# ImageNet's, without a background class.
CLASSES = 1000


def pretrained_models(archives: str) -> PretrainedModels:
    """Returns where a family's checkpoints were published.

    Args:
        archives: how the name of each archive begins.
    """
    return models_of_tf_slim(
        archives,
        about="The published values were trained with Caffe by the paper's authors, and converted. They have no "
        "background class.",
        trained_by="the authors of its paper",
    )


def mean_rgb(root: str) -> UnusedVariables:
    """Returns the variable of a checkpoint that says which means its network was trained with."""
    return UnusedVariables(f"{root}/mean_rgb", "mean of RGB", value=CHANNEL_MEANS)
