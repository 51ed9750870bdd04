"""Backbones and heads: images to activations and logits.  Nothing here reads files or trains.

The backbones of the catalog register themselves when they are imported, which is why they are imported here.
"""

from alljax.models import efficientnet_lite, resnet, vgg

__all__ = ["efficientnet_lite", "resnet", "vgg"]
