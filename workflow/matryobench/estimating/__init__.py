"""What an experiment costs before it runs: sizes of texts, operations, seconds on a device, requests of its jobs."""
