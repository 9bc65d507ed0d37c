"""Publishing: a finished site to where it is served, wheels to where the pages link them."""
