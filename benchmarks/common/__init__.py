"""What the benchmarks share: pictures, a local nginx, CPU-seconds of a process tree, peers' environments."""
