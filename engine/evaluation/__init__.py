"""The parts of `mestream evaluate`: truth, events, the live path over a file or folder, figures, report."""
