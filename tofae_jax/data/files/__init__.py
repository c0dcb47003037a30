"""Read and write files of other programs; `registry.FORMATS` lists the formats."""
