"""Backbones, which register themselves when they are imported, and heads.  Nothing here reads files or trains."""

from alljax.models import efficientnet_lite, histonet, mobilenet_v2, residual_attention, resnet, vgg, vit

__all__ = ["efficientnet_lite", "histonet", "mobilenet_v2", "residual_attention", "resnet", "vgg", "vit"]
