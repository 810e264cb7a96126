"""The vector index: an exact one in memory and Milvus, behind one protocol."""
