"""GANs on data whose modes are known: mixtures of Gaussians and stacked digits."""
