"""The network: a backbone for single frames, frame attention, and the checkpoints it starts from."""
