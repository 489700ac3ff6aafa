"""The commands that subscribe to topics on the broker, as any subscriber does."""
