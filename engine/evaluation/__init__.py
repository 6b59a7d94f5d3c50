"""What `mestream evaluate` is made of: truth, events, the live path over a file or folder, figures, report."""
