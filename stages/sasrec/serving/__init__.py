"""Uses a trained model: recommendations, ids and titles, ONNX."""
