"""The method at scale: every use of Ray is in this package."""
