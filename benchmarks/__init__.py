"""What `make bench` measures: seconds, memory and arithmetic, of this project and of others' networks beside it.

Nothing here is imported by the science; nothing here decides a result.
"""
