"""Rate control: a wanted bitrate, size or quality, the samples that tell what it takes, and the loop that meets it."""
