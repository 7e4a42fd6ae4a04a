"""SASRec on book reviews: pure functions and modules that know no path and no DVC."""
