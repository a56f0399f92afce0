"""The optional room for PyTorch, the only one that imports torch: models in and out, and fine-tuning."""
