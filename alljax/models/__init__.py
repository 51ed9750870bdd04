"""Backbones, which register themselves when they are imported, and heads.  Nothing here reads files or trains."""

from alljax.models import histonet, inverted_residuals, residual_attention, resnet, vgg, vit

__all__ = ["histonet", "inverted_residuals", "residual_attention", "resnet", "vgg", "vit"]
