"""The contents of a `.tflite` file: reading, verifying and writing the flatbuffer."""
