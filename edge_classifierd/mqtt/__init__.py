"""MQTT: topics, the connection, the publisher that empties the outbox, commands."""
