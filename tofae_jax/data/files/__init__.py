"""Files of other programs: reading and writing hits and tracks."""
