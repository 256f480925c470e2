"""The judge: each network once more, in TF-Slim's own idiom, without a look at our layer lists.

Tests and `hubexport verify` hold modules against it. Nothing of a build comes through here.
"""
