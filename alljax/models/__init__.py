"""Images to logits; nothing here knows files or training."""
