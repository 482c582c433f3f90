"""Training models of any family: `trainer` runs it, the other modules are its parts."""
