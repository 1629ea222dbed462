"""By model, each with a workspace that only these tests need: given to one process."""
