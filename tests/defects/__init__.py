"""The 26 known defects of Elephas, one test or more for each, named after it: each fails on what Elephas did."""
