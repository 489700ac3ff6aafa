"""What a `.tflite` file is: tensors, labels, metadata; nothing here loads a runtime."""
