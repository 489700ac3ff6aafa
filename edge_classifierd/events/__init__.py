"""Events: their JSON form, and the outbox that stores them until the broker has acknowledged them."""
