"""The doctor: checks of camera, broker, models and machine, each with its remedy."""
