"""Training: protocols, the loops over epochs and batches, the folder of a run, resuming, several processes."""
