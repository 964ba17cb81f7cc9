"""Scripts that train, sample and show; run each with ``python -m experiments.<name> --help``."""
