"""Discrete-event simulation of the router: profiles and arrivals in, what would have happened out.

The router that decides here is the one that serves; only clocks, models and callers are made up.
"""
