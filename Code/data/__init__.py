"""Datasets: readers, checks, frames and batches, the generated sample, composed clips. Knows nothing of networks."""
