"""Models: wavelets, folders of trained models, and the cascade."""
