"""One equation each, as functions of tensors; and the perceptual network, with where its weights come from."""
