"""Many steps in one launch: recorded as CUDA graphs, looked at once, taken back and repeated where lists ran out."""
