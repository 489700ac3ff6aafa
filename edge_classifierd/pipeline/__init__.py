"""What happens to a frame: inference, decision, events and published state."""
