"""edge-classifierd: a Raspberry Pi camera made into dependable MQTT events."""

__version__ = "1.0.0"
