"""SASRec on book reviews, in wings in the order of the data; only the stages name paths."""
