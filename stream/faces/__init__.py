"""Turns frames into aligned face crops on the time grid."""
