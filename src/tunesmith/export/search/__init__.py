"""The search for a recipe: weights rounded in many ways in PyTorch, each judged by the task, the best written as ONNX and certified."""
