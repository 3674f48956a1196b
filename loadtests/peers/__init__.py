"""mnv4serve beside other servers that do the same work: `make peers`."""
