"""edge-classifierd: a Raspberry Pi camera made into dependable MQTT events."""

__version__ = "0.1.0"
