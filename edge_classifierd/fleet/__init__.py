"""The devices of a fleet, as a subscriber sees them."""
