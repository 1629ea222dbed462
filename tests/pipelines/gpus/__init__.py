"""`num_gpus: auto`: where GPUs are used, where not and why; no result is of two precisions."""
