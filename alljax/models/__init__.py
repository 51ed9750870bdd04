"""Backbones, which register themselves when they are imported, and heads.  Nothing here reads files or trains."""

from alljax.models import efficientnet_lite, mobilenet_v2, resnet, vgg, vit

__all__ = ["efficientnet_lite", "mobilenet_v2", "resnet", "vgg", "vit"]
