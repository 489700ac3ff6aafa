"""The routes of what is stored on the device: events, models, the configuration, the log, the doctor's checks."""
