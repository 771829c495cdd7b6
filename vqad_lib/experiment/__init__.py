"""The networks of a run, their scores, and what validation selects: made once, named by what shaped them."""
