"""MESNet: network, weights, training, export and runtimes. This package knows arrays, not cameras.

Importing any part of it turns onnxruntime's telemetry off before onnxruntime is loaded. See docs/network.md.
"""

import os

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"
"""Environment variable that onnxruntime reads once, when it is loaded. A user's own value stays."""

os.environ.setdefault(TELEMETRY_OFF, "1")
