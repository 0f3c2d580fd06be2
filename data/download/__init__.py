"""Data sets that are downloaded from their authors, verified and unpacked."""
