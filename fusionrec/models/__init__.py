"""The fusion network (paper section 3.2)."""
