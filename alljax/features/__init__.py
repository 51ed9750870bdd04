"""Features that are not those of a backbone, and the selection of features."""
