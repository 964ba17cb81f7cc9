"""One file for each training: its phases in order, what they show, and the closing table."""
