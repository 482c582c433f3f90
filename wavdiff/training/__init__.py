"""Training a cascade: `loop` runs it, the other modules are its parts."""
