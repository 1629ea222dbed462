"""Tables and figures of the paper, from measured data."""
