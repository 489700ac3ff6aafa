"""Models taught on this device: their pictures and classes."""
