"""Metrics, closed forms and confidence intervals (paper section 3.3)."""
