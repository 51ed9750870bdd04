"""Numbers to a paper."""
