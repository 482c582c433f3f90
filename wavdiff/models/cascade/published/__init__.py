"""The networks that the authors of the paper released, as models of this package."""
