"""How a cascade is trained: what an example is, the losses, held-out numbers, growth, assembling."""
