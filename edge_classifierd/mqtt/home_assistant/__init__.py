"""Home Assistant discovery: the device, its entities and the topics that announce them."""
