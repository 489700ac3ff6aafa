"""A folder that pictures keep coming into."""
