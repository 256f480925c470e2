"""The reference: each network built once more with TF-Slim, without the ops of `hubexport.networks`.

Where tf_slim ships a network in `tf_slim.nets`, the reference calls it: ResNet V2. The others are rewritten with
tf_slim's layers in TF-Slim's idiom: MobileNet V1 and V2. `registry.py` says which of the two each one is. Tests and
`hubexport verify` compare modules with the reference. A build does not use it.
"""
