"""The embedded models: LoRA adapters on one shared encoder, run by ONNX Runtime in the proxy's own process."""
