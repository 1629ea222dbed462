"""Splits, evaluation protocols, user vectors and top-K ranking (paper section 3.4)."""
