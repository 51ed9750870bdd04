"""Backbones, which register themselves when they are imported, and heads.  Nothing here reads files or trains."""

from alljax.models import densenet, histonet, inverted_residuals, residual_attention, resnet, vgg, vit

__all__ = ["densenet", "histonet", "inverted_residuals", "residual_attention", "resnet", "vgg", "vit"]
