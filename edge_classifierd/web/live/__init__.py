"""What happens now: pictures, scores, their history, and the event stream."""
