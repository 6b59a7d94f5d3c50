"""MESNet: network, weights, training, export and runtimes. Knows arrays, not cameras."""
