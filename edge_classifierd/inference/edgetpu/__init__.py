"""The Coral Edge TPU: its delegate, the child process that holds it and the fallback to the CPU."""
