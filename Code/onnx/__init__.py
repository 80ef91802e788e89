"""Export of a trained network as ONNX."""
