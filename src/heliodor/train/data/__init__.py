"""What is done with sets of labelled structures before training: reading, checking, converting, dividing."""
