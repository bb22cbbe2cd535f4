"""Converters: trained checkpoints in, ONNX and TFLite model files out."""
