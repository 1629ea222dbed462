"""What only a GPU can show, and runs small on a CPU; they need PyTorch and transformers alone."""
