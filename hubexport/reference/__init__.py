"""The reference: each network built once more with TF-Slim, without the layer lists of `hubexport.networks`.

Tests and `hubexport verify` compare modules with it. A build does not use it.
"""
