"""The network: ResNet18 features, frame attention, and the checkpoints it starts from."""
