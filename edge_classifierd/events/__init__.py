"""Events: their shape on the wire and the outbox that keeps them until the broker has them."""
