"""Where frames come from, and the thread that captures them."""
