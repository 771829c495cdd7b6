"""One module per question: what the tables and figures say, from the networks and scores of a run."""
