"""Weight files of other libraries to variables of the backbones."""
