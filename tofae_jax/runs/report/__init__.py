"""What runs came to, for people and their programs."""
