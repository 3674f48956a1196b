"""Compares routing policies: simulated, on stub devices and on real models; `make evaluate`."""
