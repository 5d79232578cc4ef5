"""Finished networks of timm, torchvision, transformers and ONNX, with what each says of itself."""
