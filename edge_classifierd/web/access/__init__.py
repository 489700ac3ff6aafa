"""Who may use the page: names of the device, passwords, sessions."""
