"""One module a peer: the server as its documentation would have it.

Each runs in its own environment and imports nothing but its framework and `loadtests.peers.work`.
"""
