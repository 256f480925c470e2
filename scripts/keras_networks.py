"""The networks of Keras that are those of some variants; for the benchmarks."""

# The class of each variant's network, as Keras names it, and its arguments beside size and classes.
KERAS_MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "mobilenet_v1_100_224": ("MobileNet", {}),
    "mobilenet_v2_100_224": ("MobileNetV2", {}),
    # With preprocessing it would take images up to 255.
    "mobilenet_v3_large_100_224": ("MobileNetV3Large", {"include_preprocessing": False}),
    "mobilenet_v3_small_100_224": ("MobileNetV3Small", {"include_preprocessing": False}),
    "inception_v3": ("InceptionV3", {}),
    "inception_resnet_v2": ("InceptionResNetV2", {}),
    "resnet_v1_50": ("ResNet50", {}),
    "resnet_v2_50": ("ResNet50V2", {}),
    "vgg_16": ("VGG16", {}),
}
