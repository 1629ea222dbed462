"""An export's files, read by other libraries, say what the product says."""
