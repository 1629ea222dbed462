"""Song features by modality, their scaling and PCA (paper sections 3.1.4, 3.1.5 and 5.3)."""
