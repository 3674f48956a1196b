"""Somebody else's classifiers: looked at, tried apart, proven and added to a zoo."""
