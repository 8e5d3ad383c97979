"""A translation that is learnt in a second."""

from labelferry.translate.config import TranslateConfig

SMALL = TranslateConfig(
    stem="subpixel",
    channels=4,
    blocks=1,
    discriminator_channels=4,
    pool=3,
    iterations=12,
    batch=2,
    crop=(32, 32),
    checkpoint_every=3,
    learning_rate=1e-3,
)
