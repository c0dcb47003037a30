"""Detector, hits and images: the arrays that all other packages share. Import its modules directly."""
