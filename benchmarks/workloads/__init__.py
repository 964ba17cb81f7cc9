"""What is timed of this project; :mod:`benchmarks.workloads.package` alone imports its algorithms and its training."""
