"""What Table 5 compares with: GANomaly and DFKDE from Anomalib, and the simplest scores that use no network."""
