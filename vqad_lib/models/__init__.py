"""Architecture only: the VQ autoencoder, the patch discriminator, and the two causal priors behind one interface.

Shapes: B images, C channels, H W pixels, h w codes of the grid, D code dimension, K codebook size.
"""
